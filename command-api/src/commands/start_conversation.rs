//! `POST /v1/conversations`: a direct conversation is got or created, a group is started.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chat4all_domain::conversation::{
    Command, Kind, MAX_PARTICIPANTS, MAX_TITLE_CHARS, Member, Rejection,
};
use chat4all_domain::{ConversationId, ParticipantId, Position, Text, UserId};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_service::http::Json;
use chat4all_service::problem::Problem;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::view::Participant;
use super::{REPLAY, TRUE};
use crate::direct::{establish, meet};
use crate::problem::{Repeat, of_execute};
use crate::request::{Allowed, Call, ConversationsWrite, Key, Mistakes, Party, PartyBody};
use crate::{Accounts, CommandApi};

/// Identities that are met at the same time.
const MEET_AT_ONCE: usize = 32;

/// A conversation to start.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartConversation {
    kind: KindBody,
    /// What a group is called: at most 200 characters.
    #[schema(max_length = 200)]
    title: Option<String>,
    /// Everybody besides who starts it: one in a direct conversation, at most 899 in a group.
    participants: Vec<PartyBody>,
}

/// Two parties, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[schema(as = ConversationKind)]
#[serde(rename_all = "lowercase")]
enum KindBody {
    Direct,
    Group,
}

/// The conversation is on the log.
#[derive(Serialize, ToSchema)]
#[cfg_attr(test, derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Conversation {
    #[schema(value_type = Uuid)]
    conversation_id: ConversationId,
    kind: KindBody,
    /// Who is in a direct conversation now, who was in a group from the start.
    participants: Vec<Participant>,
    /// Reading `at_least` up to here shows it.
    #[schema(value_type = String)]
    position: Position,
}

/// Starts a conversation.
///
/// Direct: 201 if it was started, 200 if it was there already; who asks is in it afterwards. Group: the same
/// `Idempotency-Key` with the same content gives the first answer again, with `Idempotent-Replay: true`.
#[utoipa::path(
    post,
    path = "/v1/conversations",
    tag = "conversations",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "For groups: 1 to 255 printable ASCII characters"),
        ("at_least" = Option<String>, Query, description = "Decide on what is known at this position or later"),
    ),
    request_body(content = StartConversation, examples(
        ("direct" = (value = json!({
            "kind": "direct",
            "participants": [{"channel": "whatsapp", "address": "+4915112345678"}],
        }))),
        ("group" = (value = json!({
            "kind": "group",
            "title": "Order 4711",
            "participants": [
                {"user_id": "5b0c5b1e-6f3a-5c0e-9d5e-2a7f6f1f0b11"},
                {"channel": "whatsapp", "address": "+4915112345678"},
            ],
        }))),
    )),
    responses(
        (status = 201, description = "Started", body = Conversation,
            headers(("Idempotent-Replay" = bool, description = "The request came before")),
            example = json!({
                "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
                "kind": "group",
                "participants": [
                    {"participant_id": "1d1c9a2b-3c4d-5e6f-8a9b-0c1d2e3f4a5b",
                     "user_id": "5b0c5b1e-6f3a-5c0e-9d5e-2a7f6f1f0b11"},
                    {"participant_id": "2e2dab3c-4d5e-5f60-9bac-1d2e3f4a5b6c",
                     "channel": "whatsapp-main", "address": "4915112345678"},
                ],
                "position": "07-12",
            })),
        (status = 200, description = "The direct conversation was there already", body = Conversation),
        (status = 422, response = crate::openapi::Unprocessable),
        (status = 503, response = crate::openapi::Unavailable),
        (status = 507, response = crate::openapi::LogFull),
    ),
)]
pub(crate) async fn start_conversation(
    State(api): State<CommandApi>,
    Allowed { user, .. }: Allowed<ConversationsWrite>,
    call: Call,
    Key(key): Key,
    Json(body): Json<StartConversation>,
) -> Result<Response, Problem> {
    match body.understand(user, api.accounts())? {
        Start::Direct(party) => direct(&api, &call, user, &party).await,
        Start::Group { title, parties } => {
            start_group(&api, &call, user, key.as_deref(), title, &parties).await
        }
    }
}

/// A request, understood.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Direct(Party),
    Group {
        title: Option<Text>,
        parties: Vec<Party>,
    },
}

impl StartConversation {
    fn understand(self, user: UserId, accounts: &Accounts) -> Result<Start, Problem> {
        let mut mistakes = Mistakes::default();
        let start = match self.kind {
            KindBody::Direct => self.direct(user, accounts, &mut mistakes),
            KindBody::Group => self.group(user, accounts, &mut mistakes),
        };
        mistakes.unless_any(start)
    }

    fn direct(self, user: UserId, accounts: &Accounts, mistakes: &mut Mistakes) -> Option<Start> {
        if self.title.is_some() {
            mistakes.add("/title", "a direct conversation has none; leave it out");
        }
        let [party] = self.participants.as_slice() else {
            mistakes.add(
                "/participants",
                "a direct conversation is with exactly one participant besides you",
            );
            return None;
        };
        let party = party.understand("/participants/0", accounts, mistakes)?;
        if party == Party::User(user) {
            mistakes.add("/participants/0/user_id", "is yourself; name somebody else");
        }
        Some(Start::Direct(party))
    }

    fn group(self, user: UserId, accounts: &Accounts, mistakes: &mut Mistakes) -> Option<Start> {
        let title = self
            .title
            .map(|title| mistakes.check("/title", Text::parse(title, MAX_TITLE_CHARS)));
        if self.participants.len() >= MAX_PARTICIPANTS {
            let detail = format!(
                "a conversation has at most {} participants besides you",
                MAX_PARTICIPANTS - 1
            );
            mistakes.add("/participants", detail);
            return None;
        }
        let mut parties: Vec<Party> = Vec::with_capacity(self.participants.len());
        let mut seen = BTreeMap::new();
        for (index, body) in self.participants.iter().enumerate() {
            let at = format!("/participants/{index}");
            let Some(party) = body.understand(&at, accounts, mistakes) else {
                continue;
            };
            if let Some(first) = seen.insert(party.clone(), index) {
                mistakes.add(at, format!("is the same as /participants/{first}"));
            }
            parties.push(party);
        }
        // Who was named in a way that is not understood is somebody all the same.
        let all_understood = parties.len() == self.participants.len();
        // Who starts it is in it anyway.
        parties.retain(|party| *party != Party::User(user));
        if parties.is_empty() && all_understood {
            mistakes.add("/participants", Rejection::Empty);
        }
        Some(Start::Group {
            title: title.flatten(),
            parties,
        })
    }
}

async fn direct(
    api: &CommandApi,
    call: &Call,
    user: UserId,
    party: &Party,
) -> Result<Response, Problem> {
    let established = establish(api, call, user, party).await?;
    let answer = Conversation {
        conversation_id: established.conversation,
        kind: KindBody::Direct,
        participants: established.state.present().map(Participant::from).collect(),
        position: established.position,
    };
    let status = if established.started {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(answer)).into_response())
}

async fn start_group(
    api: &CommandApi,
    call: &Call,
    user: UserId,
    key: Option<&str>,
    title: Option<Text>,
    parties: &[Party],
) -> Result<Response, Problem> {
    let (id, repeat) = match key {
        Some(key) => (ConversationId::derive_group(user, key), Repeat::Safe),
        None => (ConversationId::new(Uuid::now_v7()), Repeat::Unsafe),
    };
    let everybody = parties.iter().cloned().chain([Party::User(user)]);
    let mut members: Vec<_> = everybody
        .map(|party| party.member(api.id_secret(), id))
        .collect();
    members.sort_by_key(Member::participant);
    let canonical = canonical(title.as_ref(), &members);
    let fingerprint = Some(api.id_secret().fingerprint(user, &canonical));
    // Identities first: what a crash leaves behind then is an address that was met.
    let meetings: Vec<_> = parties.iter().map(|party| meet(api, call, party)).collect();
    stream::iter(meetings)
        .buffer_unordered(MEET_AT_ONCE)
        .try_collect::<()>()
        .await?;
    let participants = members.iter().map(Participant::from).collect();
    let start = Command::Start {
        kind: Kind::Group,
        members,
        title,
        fingerprint,
        by: Some(user),
        at: call.now,
    };
    let context = call.context(Purpose::Accept, Assume::Absent);
    let done = api
        .execute(
            &api.stores().conversations,
            &id,
            (start.name(), start),
            context,
        )
        .await;
    let done = done.map_err(|error| of_execute(error, repeat))?;
    let answer = Conversation {
        conversation_id: id,
        kind: KindBody::Group,
        participants,
        position: done.created.at(api.log().partition_of(&id)),
    };
    let mut response = (StatusCode::CREATED, Json(answer)).into_response();
    if done.events.is_empty() {
        response.headers_mut().insert(REPLAY, TRUE);
    }
    Ok(response)
}

/// What makes two requests under one key the same: title and members, in whatever order they were named.
///
/// The text of this lasts as long as the log. A field that is added must be left out where it has its old meaning.
#[derive(Serialize)]
struct Canonical<'a> {
    kind: &'static str,
    title: Option<&'a str>,
    /// The ids say account and address too.
    participants: Vec<ParticipantId>,
}

fn canonical(title: Option<&Text>, members: &[Member]) -> String {
    let canonical = Canonical {
        kind: "group",
        title: title.map(Text::reveal),
        participants: members.iter().map(Member::participant).collect(),
    };
    serde_json::to_string(&canonical).expect("ids and text are JSON")
}

#[cfg(test)]
mod tests;
