//! The same key, the same answer: a hundred times at once, after a restart of everything, whoever came and went.

use std::collections::BTreeSet;

use chat4all_domain::delivery;
use chat4all_domain::message;
use chat4all_nats::Change;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::system::{self, Answer, Call, System, contact, log_of, phone, user_id};

const AT_ONCE: usize = 100;

/// How a request is recognised.
#[derive(Clone, Copy, Debug)]
enum By {
    Key,
    MessageId,
}

/// A message that was posted, and the answer it got.
struct Posted {
    by: By,
    key: Option<String>,
    body: Value,
    answer: Value,
}

impl Posted {
    /// Posts it [`AT_ONCE`] times at once, by ana.
    async fn at_once(system: &System, conversation: &str, by: By, text: &str) -> Self {
        let mut body = system::message(conversation, text);
        let mut key = None;
        match by {
            By::Key => key = Some(format!("key of {text}")),
            By::MessageId => body["message_id"] = Uuid::now_v7().to_string().into(),
        }
        let post = |_| system.post("ana", "/v1/messages", key.as_deref(), &body);
        let answers: Vec<Answer> = join_all((0..AT_ONCE).map(post)).await;
        let refused: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status != StatusCode::ACCEPTED)
            .collect();
        assert!(refused.is_empty(), "{by:?}: {refused:?}");
        let bodies: BTreeSet<_> = answers.iter().map(|one| one.body.to_string()).collect();
        assert_eq!(bodies.len(), 1, "{by:?}: {bodies:?}");
        let first = answers.iter().filter(|answer| !answer.replay).count();
        assert_eq!(
            first, 1,
            "{by:?}: so many answers say that they are the first"
        );
        let answer = answers[0].body.clone();
        Self {
            by,
            key,
            body,
            answer,
        }
    }

    /// The same again gives the old answer, and something else under its name a refusal.
    async fn holds(&self, system: &System, when: &str) {
        let key = self.key.as_deref();
        let again = system.post("ana", "/v1/messages", key, &self.body).await;
        let by = self.by;
        assert_eq!(
            (again.status, again.replay, &again.body),
            (StatusCode::ACCEPTED, true, &self.answer),
            "{by:?}, {when}"
        );
        let mut other = self.body.clone();
        other["content"]["text"] = "something else".into();
        let refused = system.post("ana", "/v1/messages", key, &other).await;
        assert_eq!(
            (refused.status, refused.problem().0),
            (
                StatusCode::UNPROCESSABLE_ENTITY,
                Some("idempotency_mismatch")
            ),
            "{by:?}, {when}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_one_message_and_one_call_after_restarts_and_whoever_comes_and_goes() {
    let mut system = System::start().await;
    let [anna, ben] = [phone(0), phone(1)];
    let group = system.group("ana", std::slice::from_ref(&anna)).await;
    let participants = format!("/v1/conversations/{group}/participants");
    let mut all = Vec::new();
    for by in [By::Key, By::MessageId] {
        all.push(Posted::at_once(&system, &group, by, &format!("{by:?}")).await);
    }
    let hold = async |system: &System, when| {
        for posted in &all {
            posted.holds(system, when).await;
        }
    };
    hold(&system, "at once").await;
    // Lanes keep their order: when what comes later has been read, everything before it has had its chance.
    let later = system.say("ana", &group, "later").await;
    system.read("ana", &later).await;
    assert_eq!(
        texts(&system.taken_for(&anna).await),
        ["Key", "MessageId", "later"]
    );

    system.restart(Signal::TERM).await;
    hold(&system, "after a restart of everything").await;
    let user = json!({"user_id": user_id("cleo")});
    for somebody in [contact(&ben), user] {
        let joined = system.post("ana", &participants, None, &somebody).await;
        assert_eq!(joined.status, StatusCode::OK, "{joined:?}");
    }
    hold(&system, "after somebody joined").await;
    let with_ben = system.say("ana", &group, "with ben").await;
    system.read("ana", &with_ben).await;
    // The provider was restarted, too, and has forgotten: what it took now is new.
    for who in [&anna, &ben] {
        assert_eq!(texts(&system.taken_for(who).await), ["with ben"]);
    }

    leave(&system, &group, &ben).await;
    hold(&system, "after somebody left").await;
    leave(&system, &group, &user_id("ana")).await;
    hold(&system, "after the author left").await;
    let new = system::message(&group, "new");
    let refused = system.post("ana", "/v1/messages", None, &new).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "{refused:?}");

    system.restart(Signal::KILL).await;
    hold(&system, "after the author left and everything was killed").await;
    // Somebody else's same key is another one, and goes out to who is there now.
    let own = all[0].key.as_deref();
    let cleos = system.post("cleo", "/v1/messages", own, &all[0].body).await;
    assert_eq!((cleos.status, cleos.replay), (StatusCode::ACCEPTED, false));
    system.read("cleo", &cleos).await;
    assert_eq!(texts(&system.taken().await), ["Key"]);

    let (accepted, attempts) = on_the_log(&system, &group).await;
    assert_eq!(accepted, 5, "two under test, three others");
    assert_eq!(attempts, 6, "one for each recipient of each");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_different_contents_under_one_key_at_once_one_is_accepted_and_the_others_are_refused() {
    let system = System::start().await;
    let group = system.group("ana", &[phone(0)]).await;
    let post = async |i: usize| {
        let body = system::message(&group, &format!("text {}", i % 4));
        let answer = system
            .post("ana", "/v1/messages", Some("one key"), &body)
            .await;
        (i % 4, answer)
    };
    let answers = join_all((0..AT_ONCE).map(post)).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|(_, answer)| answer.status == StatusCode::ACCEPTED);
    let contents: BTreeSet<_> = accepted.iter().map(|(content, _)| content).collect();
    assert_eq!(contents.len(), 1, "{accepted:?}");
    assert_eq!(accepted.len(), AT_ONCE / 4);
    for (_, answer) in refused {
        assert_eq!(
            answer.problem().0,
            Some("idempotency_mismatch"),
            "{answer:?}"
        );
    }
    let (_, answer) = accepted[0];
    system.read("ana", answer).await;
    let expected = format!("text {}", accepted[0].0);
    assert_eq!(texts(&system.taken().await), [expected.as_str()]);
    assert_eq!(on_the_log(&system, &group).await, (1, 1));
}

/// Somebody goes: the participant with that address or user id.
async fn leave(system: &System, group: &str, who: &str) {
    let path = format!("/v1/conversations/{group}");
    let shown = system.rest("ana", &path, None).await;
    let participants = shown["participants"].as_array().unwrap();
    let participant = participants
        .iter()
        .find(|one| one["address"] == who || one["user_id"] == who);
    let id = participant.unwrap()["participant_id"].as_str().unwrap();
    let path = format!("{path}/participants/{id}");
    let left = system::answer(system.command("ana", Method::DELETE, &path)).await;
    assert_eq!(left.status, StatusCode::OK, "{left:?}");
}

fn texts(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.text.as_str()).collect()
}

/// How many messages of the conversation are on the log, and how many attempts to deliver them.
async fn on_the_log(system: &System, group: &str) -> (usize, usize) {
    let (mut accepted, mut attempts) = (0, 0);
    for logged in log_of(&system.env).await {
        match logged.change {
            Change::Message(id, events) if id.conversation.to_string() == group => {
                let is = |event| matches!(event, message::Event::Accepted { .. });
                accepted += events
                    .into_iter()
                    .filter(|one| is(one.event.clone()))
                    .count();
            }
            Change::Delivery(id, events) if id.conversation.to_string() == group => {
                let is = |event| matches!(event, delivery::Event::Attempted { .. });
                attempts += events
                    .into_iter()
                    .filter(|one| is(one.event.clone()))
                    .count();
            }
            Change::Message(..)
            | Change::Delivery(..)
            | Change::Conversation(..)
            | Change::Reader(..)
            | Change::Identity(..) => {}
        }
    }
    (accepted, attempts)
}
