//! `DELETE /v1/conversations/{conversation_id}/participants/{participant_id}`: somebody leaves. Who is not in it stays out of it.

use axum::extract::State;
use chat4all_domain::conversation::Command;
use chat4all_domain::{ConversationId, ParticipantId, Position};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_service::http::{Json, Path};
use chat4all_service::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use crate::CommandApi;
use crate::problem::{Repeat, of_execute};
use crate::request::{Allowed, Call, ConversationsWrite, Id};

/// They are not in it.
#[derive(Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct ParticipantRemoved {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    /// Reading `at_least` up to here shows it.
    #[schema(value_type = String)]
    position: Position,
}

/// Removes a participant.
///
/// Removing somebody who is not in it changes nothing and is answered in the same way. Who has left sees the
/// conversation no more: for them a repeat is 404.
#[utoipa::path(
    delete,
    path = "/v1/conversations/{conversation_id}/participants/{participant_id}",
    tag = "conversations",
    params(
        ("conversation_id" = Uuid, Path, description = "The conversation"),
        ("participant_id" = Uuid, Path, description = "The participant"),
        ("at_least" = Option<String>, Query, description = "Decide on what is known at this position or later"),
    ),
    responses(
        (status = 200, description = "Not in the conversation", body = ParticipantRemoved, example = json!({
            "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
            "participant_id": "2e2dab3c-4d5e-5f60-9bac-1d2e3f4a5b6c",
            "position": "07-15",
        })),
        (status = 404, response = crate::openapi::NotFound),
        (status = 409, response = crate::openapi::Conflict),
        (status = 422, response = crate::openapi::Unprocessable),
        (status = 503, response = crate::openapi::Unavailable),
    ),
)]
pub(crate) async fn remove_participant(
    State(api): State<CommandApi>,
    Allowed { user, .. }: Allowed<ConversationsWrite>,
    call: Call,
    Path((id, participant)): Path<(Id, Id)>,
) -> Result<Json<ParticipantRemoved>, Problem> {
    let id = ConversationId::new(id.0);
    let participant = ParticipantId::new(participant.0);
    let remove = Command::Remove {
        participant,
        by: user,
        at: call.now,
    };
    // Also when the log takes nothing new: somebody who must not read on cannot wait for room.
    let context = call.context(Purpose::Outcome, Assume::Nothing);
    let done = api
        .execute(
            &api.stores().conversations,
            &id,
            (remove.name(), remove),
            context,
        )
        .await;
    let done = done.map_err(|error| of_execute(error, Repeat::Safe))?;
    Ok(Json(ParticipantRemoved {
        conversation_id: id,
        participant_id: participant,
        position: done.position,
    }))
}
