//! `POST /v1/messages`: 202 as soon as the message is on the log. What is decided, and on what, stands in `accept.rs`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chat4all_domain::{
    AccountId, ConversationId, IdSecret, MessageId, Position, Text, UserId, message,
};
use chat4all_service::http::Json;
use chat4all_service::problem::Problem;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::REPLAY;
use super::accept::accept;
use super::draft::{Draft, fingerprint};
use crate::problem::Repeat;
use crate::request::{Allowed, BodyId, Call, Key, MessagesWrite, Mistakes, Party, party};
use crate::{Accounts, CommandApi};

/// A message to send, into a conversation or to an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendMessage {
    /// The conversation; or else `to`.
    #[schema(value_type = Option<Uuid>)]
    conversation_id: Option<BodyId>,
    /// The address of the direct conversation, which is started if need be; or else `conversation_id`.
    to: Option<To>,
    /// What is said.
    content: Content,
    /// The message's id, chosen by the client; instead of an `Idempotency-Key`.
    #[schema(value_type = Option<Uuid>)]
    message_id: Option<BodyId>,
}

/// An address on a channel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct To {
    /// An account (`whatsapp-main`), or a kind (`whatsapp`) that has exactly one account.
    channel: String,
    /// The address there; for WhatsApp a phone number in E.164, with or without `+`.
    address: String,
}

/// What is said.
#[derive(Deserialize, ToSchema)]
#[schema(as = MessageContent)]
#[serde(deny_unknown_fields)]
struct Content {
    r#type: ContentType,
    /// Not blank, no U+0000, at most 32,768 characters, and no more than every recipient's channel carries.
    text: String,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content(***)")
    }
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ContentType {
    Text,
}

/// The message is on the log.
#[derive(Serialize, ToSchema)]
#[cfg_attr(test, derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct MessageAccepted {
    #[schema(value_type = Uuid)]
    message_id: MessageId,
    #[schema(value_type = Uuid)]
    conversation_id: ConversationId,
    /// The account that is used for `to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    channel: Option<AccountId>,
    status: Status,
    /// Reading `at_least` up to here shows the message.
    #[schema(value_type = String)]
    position: Position,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[cfg_attr(test, derive(Deserialize))]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Pending,
}

/// Sends a message.
///
/// The same key (or message id) with the same content gives the first answer again, with `Idempotent-Replay: true`.
#[utoipa::path(
    post,
    path = "/v1/messages",
    tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters"),
        ("at_least" = Option<String>, Query, description = "Decide on what is known at this position or later"),
    ),
    request_body(content = SendMessage, examples(
        ("into a conversation" = (value = json!({
            "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
            "content": {"type": "text", "text": "hello"},
            "message_id": "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e",
        }))),
        ("to an address" = (value = json!({
            "to": {"channel": "whatsapp", "address": "+4915112345678"},
            "content": {"type": "text", "text": "hello"},
        }))),
    )),
    responses(
        (status = 202, description = "On the log, on disk", body = MessageAccepted,
            headers(("Idempotent-Replay" = bool, description = "The request came before")),
            example = json!({
                "message_id": "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e",
                "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
                "channel": "whatsapp-main",
                "status": "PENDING",
                "position": "07-13",
            })),
        (status = 404, response = crate::openapi::NotFound),
        (status = 422, response = crate::openapi::Unprocessable),
        (status = 503, response = crate::openapi::Unavailable),
        (status = 507, response = crate::openapi::LogFull),
    ),
)]
pub(crate) async fn send_message(
    State(api): State<CommandApi>,
    Allowed { user, .. }: Allowed<MessagesWrite>,
    call: Call,
    Key(key): Key,
    Json(body): Json<SendMessage>,
) -> Result<Response, Problem> {
    let repeat = match (&key, body.message_id) {
        (None, None) => Repeat::Named,
        (Some(_), _) | (_, Some(_)) => Repeat::Safe,
    };
    let draft = body.understand(api.id_secret(), api.accounts(), user, key.as_deref())?;
    let accepted = accept(&api, &call, &draft, repeat).await?;
    let channel = match draft.to {
        Some(Party::Contact { account, .. }) => Some(account),
        Some(Party::User(_)) | None => None,
    };
    let answer = MessageAccepted {
        message_id: draft.id.message,
        conversation_id: draft.id.conversation,
        channel,
        status: Status::Pending,
        position: accepted.position,
    };
    let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
    if accepted.replay {
        response.headers_mut().insert(REPLAY, super::TRUE);
    }
    Ok(response)
}

impl SendMessage {
    fn understand(
        self,
        secret: &IdSecret,
        accounts: &Accounts,
        author: UserId,
        key: Option<&str>,
    ) -> Result<Draft, Problem> {
        let mut mistakes = Mistakes::default();
        let ContentType::Text = self.content.r#type;
        let text = Text::parse(self.content.text, Text::MAX_CHARS);
        let text = mistakes.check("/content/text", text);
        let message_id = self
            .message_id
            .and_then(|id| id.understand("/message_id", &mut mistakes));
        if let (Some(key), Some(id)) = (key, message_id)
            && Uuid::parse_str(key) != Ok(id)
        {
            mistakes.add(
                "/message_id",
                "differs from the Idempotency-Key; send one of the two",
            );
        }
        let place = match (self.conversation_id, self.to) {
            (Some(id), None) => {
                let id = id.understand("/conversation_id", &mut mistakes);
                id.map(|id| (ConversationId::new(id), None))
            }
            (None, Some(to)) => to.understand(accounts, &mut mistakes).map(|party| {
                let conversation = party.direct_with(secret, author);
                (conversation, Some(party))
            }),
            (Some(_), Some(_)) => {
                mistakes.add("/to", "expected either `conversation_id` or `to`, not both");
                None
            }
            (None, None) => {
                let detail = "is missing, and so is `to`; one of the two is needed";
                mistakes.add("/conversation_id", detail);
                None
            }
        };
        let (text, (conversation, to)) = mistakes.unless_any(text.zip(place))?;
        let message = match (message_id, key) {
            (Some(id), _) => MessageId::new(id),
            (None, Some(key)) => MessageId::derive(conversation, author, key),
            (None, None) => MessageId::new(Uuid::now_v7()),
        };
        let fingerprint = fingerprint(secret, author, conversation, &text);
        Ok(Draft {
            id: message::Id {
                conversation,
                message,
            },
            author,
            text,
            to,
            fingerprint,
        })
    }
}

impl To {
    fn understand(&self, accounts: &Accounts, mistakes: &mut Mistakes) -> Option<Party> {
        party::contact(&self.channel, &self.address, "/to", accounts, mistakes)
    }
}

#[cfg(test)]
mod tests;
