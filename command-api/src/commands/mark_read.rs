//! `POST /v1/conversations/{conversation_id}/read`: everything up to a message has been seen. One append, however many messages.

use axum::extract::State;
use chat4all_domain::{ConversationId, MessageId, ParticipantId, Position, message, reader};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_service::http::{Json, Path};
use chat4all_service::problem::Problem;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accepted::accepted;
use super::membership;
use crate::CommandApi;
use crate::problem::{Repeat, of_execute};
use crate::request::{Allowed, Call, Id, MessagesWrite};

/// How far the caller has read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MarkRead {
    /// The last message seen. A mark only moves forward: one that is behind changes nothing.
    #[schema(value_type = uuid::Uuid)]
    up_to: Id,
}

/// The mark is at the message, or further.
#[derive(Serialize, ToSchema)]
#[cfg_attr(test, derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct ReadUpTo {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    #[schema(value_type = uuid::Uuid)]
    up_to: MessageId,
    /// Reading `at_least` up to here shows it.
    #[schema(value_type = String)]
    position: Position,
}

/// Marks messages as read.
#[utoipa::path(
    post,
    path = "/v1/conversations/{conversation_id}/read",
    tag = "messages",
    params(
        ("conversation_id" = Uuid, Path, description = "The conversation"),
        ("at_least" = Option<String>, Query, description = "Decide on what is known at this position or later"),
    ),
    request_body(content = MarkRead, example = json!({"up_to": "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e"})),
    responses(
        (status = 200, description = "Marked", body = ReadUpTo, example = json!({
            "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
            "participant_id": "1d1c9a2b-3c4d-5e6f-8a9b-0c1d2e3f4a5b",
            "up_to": "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e",
            "position": "07-16",
        })),
        (status = 404, response = crate::openapi::NotFound),
        (status = 422, response = crate::openapi::Unprocessable),
        (status = 503, response = crate::openapi::Unavailable),
    ),
)]
pub(crate) async fn mark_read(
    State(api): State<CommandApi>,
    Allowed { user, .. }: Allowed<MessagesWrite>,
    call: Call,
    Path(id): Path<Id>,
    Json(body): Json<MarkRead>,
) -> Result<Json<ReadUpTo>, Problem> {
    let conversation = ConversationId::new(id.0);
    let message = message::Id {
        conversation,
        message: MessageId::new(body.up_to.0),
    };
    let participant = membership::participant(&api, conversation, user, call.deadline).await?;
    let accepted = accepted(&api, &call, &message)
        .await?
        .ok_or_else(|| Problem::field("/up_to", "is not a message of this conversation"))?;
    let read = reader::Command::ReadUpTo {
        message: message.message,
        sequence: accepted.created.get(),
        at: call.now,
    };
    let reader = reader::Id {
        conversation,
        participant,
    };
    let context = call.context(Purpose::Outcome, Assume::Nothing);
    let done = api
        .execute(&api.stores().readers, &reader, (read.name(), read), context)
        .await;
    let done = done.map_err(|error| of_execute(error, Repeat::Safe))?;
    Ok(Json(ReadUpTo {
        conversation_id: conversation,
        participant_id: participant,
        up_to: message.message,
        position: done.position,
    }))
}
