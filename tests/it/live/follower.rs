//! Somebody who follows, is cut off again and again, comes back with the last cursor, and keeps what they were shown.

use std::collections::BTreeMap;
use std::time::Duration;

use chat4all_domain::Position;
use serde_json::{Value, json};

use super::client::{Came, Events, Socket, queries};
use super::sight::DEAD_LETTERS;
use crate::journeys::system::System;

/// What they were shown: the places of every conversation, in the order in which they came.
pub type Shown = BTreeMap<String, Vec<Position>>;

/// What they follow, and how.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    Conversation(&'a str),
    Mine,
    Sse,
    SseOf(&'a str),
    DeadLetters,
}

pub const EVENTS: &str = "cursor position events { __typename
    ... on MessageAccepted { conversationId messageId }
    ... on DeliveryChanged { conversationId messageId number status type }
    ... on ReadFurther { conversationId }
    ... on ConversationStarted { conversationId }
    ... on ParticipantJoined { conversationId }
    ... on ParticipantLeft { conversationId participantId } }";

pub fn of_conversation() -> String {
    format!(
        "subscription ($id: ID!, $after: String) {{ conversationEvents(conversationId: $id, after: $after) {{ {EVENTS} }} }}"
    )
}

pub fn of_mine() -> String {
    format!("subscription ($after: String) {{ myEvents(after: $after) {{ {EVENTS} }} }}")
}

pub struct Follower<'a> {
    /// Where they connect.
    pub base: String,
    token: String,
    pub way: Way<'a>,
    pub cursor: Option<String>,
    /// The first cursor: where they began.
    pub began: Option<String>,
    pub shown: Shown,
    /// The places of what was put aside, in the order in which they were told of it.
    pub parked: Vec<u64>,
    /// How often they were told to resume.
    pub resyncs: usize,
    line: Option<Line>,
}

enum Line {
    Socket(Box<Socket>),
    Events(Box<Events>),
}

impl<'a> Follower<'a> {
    /// Has begun when this returns.
    pub async fn begin(system: &System, token: &str, way: Way<'a>) -> Self {
        Self::begin_at(queries(system), token, way).await
    }

    /// The same at the process that answers at `base`.
    pub async fn begin_at(base: &str, token: &str, way: Way<'a>) -> Self {
        let mut follower = Self {
            base: base.to_owned(),
            token: token.to_owned(),
            way,
            cursor: None,
            began: None,
            shown: Shown::new(),
            parked: Vec::new(),
            resyncs: 0,
            line: None,
        };
        while follower.cursor.is_none() {
            follower.next().await;
        }
        follower.began.clone_from(&follower.cursor);
        follower
    }

    /// Hangs up without a word.
    pub fn cut(&mut self) {
        self.line = None;
    }

    /// Takes one thing in, from wherever they were.
    pub async fn next(&mut self) {
        if self.line.is_none() {
            self.line = self.connect().await;
        }
        let came = match &mut self.line {
            None => {
                // The broker is away: nobody is taken in.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return;
            }
            Some(Line::Socket(socket)) => shown_by_socket(socket.next().await),
            Some(Line::Events(events)) => events.next().await.map(|event| {
                if event.name.as_deref() == Some("end") {
                    assert_eq!(event.data["code"], "resync", "{event:?}");
                    return Update::Resync(event.data["cursor"].as_str().unwrap().to_owned());
                }
                let update = (!event.data.is_null()).then_some(event.data);
                Update::Shown(event.id.unwrap(), update)
            }),
        };
        match came {
            Some(Update::Shown(cursor, update)) => self.take(cursor, update),
            Some(Update::Resync(cursor)) => {
                // From the last thing they were shown.
                assert_eq!(Some(&cursor), self.cursor.as_ref());
                self.resyncs += 1;
                self.cut();
            }
            None => self.cut(),
        }
    }

    fn take(&mut self, cursor: String, update: Option<Value>) {
        self.cursor = Some(cursor);
        let Some(update) = update else { return };
        if let Some(letters) = update["deadLetters"].as_array() {
            letters.iter().for_each(|letter| self.told_of(letter));
            return;
        }
        let first = &update["events"][0];
        let conversation = first["conversationId"].as_str();
        let conversation = conversation.or(first["conversation_id"].as_str());
        self.keep(conversation.unwrap(), &update["position"]);
    }

    fn told_of(&mut self, letter: &Value) {
        let id = letter["id"].as_str().unwrap();
        match id.strip_prefix("parked-inbound:") {
            Some(sequence) => self.parked.push(sequence.parse().unwrap()),
            None => {
                let conversation = letter["conversationId"].as_str();
                self.keep(conversation.unwrap(), &letter["position"]);
            }
        }
    }

    fn keep(&mut self, conversation: &str, position: &Value) {
        let position = position.as_str().unwrap().parse().unwrap();
        let places = self.shown.entry(conversation.to_owned());
        places.or_default().push(position);
    }

    async fn connect(&self) -> Option<Line> {
        let (id, query) = match self.way {
            Way::Sse => return self.listen("/v1/events").await,
            Way::SseOf(id) => {
                return self.listen(&format!("/v1/conversations/{id}/events")).await;
            }
            Way::Conversation(id) => (id, of_conversation()),
            Way::Mine => ("", of_mine()),
            Way::DeadLetters => ("", DEAD_LETTERS.to_owned()),
        };
        let mut socket = Socket::graphql_at(&self.base, &self.token).await.ok()?;
        let variables = json!({"id": id, "after": self.cursor});
        socket.subscribe("1", &query, variables).await;
        Some(Line::Socket(Box::new(socket)))
    }

    async fn listen(&self, path: &str) -> Option<Line> {
        let last = self.cursor.as_deref();
        let events = Events::open_at(&self.base, &self.token, path, last).await;
        match events {
            Ok(events) => Some(Line::Events(Box::new(events))),
            Err(status) => {
                assert!([0, 503].contains(&status), "{status}");
                None
            }
        }
    }

    /// The last place of each conversation.
    pub fn has(&self, conversation: &str, sequence: u64) -> bool {
        let places = self.shown.get(conversation);
        places.is_some_and(|places| places.iter().any(|place| place.sequence >= sequence))
    }

    /// The last of each of these.
    pub fn has_all(&self, wanted: &Shown) -> bool {
        let mut lasts = wanted
            .iter()
            .filter_map(|(id, places)| Some((id, places.last()?)));
        lasts.all(|(id, last)| self.has(id, last.sequence))
    }
}

enum Update {
    Shown(String, Option<Value>),
    Resync(String),
}

fn shown_by_socket(came: Came) -> Option<Update> {
    let Came::Frame(frame) = came else {
        return None;
    };
    if frame["type"] == "error" {
        let said = &frame["payload"][0]["extensions"];
        return match said["code"].as_str() {
            Some("resync") => Some(Update::Resync(said["cursor"].as_str().unwrap().to_owned())),
            Some("unavailable") => None,
            _ => panic!("{frame}"),
        };
    }
    assert_eq!(frame["type"], "next", "{frame}");
    let Value::Object(data) = frame["payload"]["data"].clone() else {
        panic!("{frame}");
    };
    let update = data.into_iter().next().unwrap().1;
    let cursor = update["cursor"].as_str().unwrap().to_owned();
    let letters = update["deadLetters"].as_array();
    let only_the_cursor = update["position"].is_null() && letters.is_none_or(Vec::is_empty);
    Some(Update::Shown(cursor, (!only_the_cursor).then_some(update)))
}
