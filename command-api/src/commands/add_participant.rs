//! `POST /v1/conversations/{conversation_id}/participants`: somebody joins. Who is in it already stays in it.

use axum::extract::State;
use chat4all_domain::conversation::Command;
use chat4all_domain::{ConversationId, Position};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_service::http::{Json, Path};
use chat4all_service::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::membership;
use super::view::Participant;
use crate::CommandApi;
use crate::direct::meet;
use crate::problem::{Repeat, of_execute};
use crate::request::{Allowed, Call, ConversationsWrite, Id, Mistakes, PartyBody};

/// They are in it.
#[derive(Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize), serde(deny_unknown_fields))]
pub(crate) struct ParticipantAdded {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    participant: Participant,
    /// Reading `at_least` up to here shows it.
    #[schema(value_type = String)]
    position: Position,
}

/// Adds a participant.
///
/// Adding somebody who is in it already changes nothing and is answered in the same way.
#[utoipa::path(
    post,
    path = "/v1/conversations/{conversation_id}/participants",
    tag = "conversations",
    params(
        ("conversation_id" = Uuid, Path, description = "The conversation"),
        ("at_least" = Option<String>, Query, description = "Decide on what is known at this position or later"),
    ),
    request_body(content = PartyBody, examples(
        ("a user" = (value = json!({"user_id": "5b0c5b1e-6f3a-5c0e-9d5e-2a7f6f1f0b11"}))),
        ("an address" = (value = json!({"channel": "whatsapp", "address": "+4915112345678"}))),
    )),
    responses(
        (status = 200, description = "In the conversation", body = ParticipantAdded, example = json!({
            "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
            "participant": {"participant_id": "2e2dab3c-4d5e-5f60-9bac-1d2e3f4a5b6c",
                "channel": "whatsapp-main", "address": "4915112345678"},
            "position": "07-14",
        })),
        (status = 404, response = crate::openapi::NotFound),
        (status = 409, response = crate::openapi::Conflict),
        (status = 422, response = crate::openapi::Unprocessable),
        (status = 503, response = crate::openapi::Unavailable),
        (status = 507, response = crate::openapi::LogFull),
    ),
)]
pub(crate) async fn add_participant(
    State(api): State<CommandApi>,
    Allowed { user, .. }: Allowed<ConversationsWrite>,
    call: Call,
    Path(id): Path<Id>,
    Json(body): Json<PartyBody>,
) -> Result<Json<ParticipantAdded>, Problem> {
    let id = ConversationId::new(id.0);
    let mut mistakes = Mistakes::default();
    let party = body.understand("", api.accounts(), &mut mistakes);
    let party = mistakes.unless_any(party)?;
    // Before an identity is made for somebody who may not be added.
    membership::participant(&api, id, user, call.deadline).await?;
    meet(&api, &call, &party).await?;
    let member = party.member(api.id_secret(), id);
    let participant = Participant::from(&member);
    let add = Command::Add {
        member,
        by: Some(user),
        at: call.now,
    };
    let context = call.context(Purpose::Accept, Assume::Nothing);
    let done = api
        .execute(&api.stores().conversations, &id, (add.name(), add), context)
        .await;
    let done = done.map_err(|error| of_execute(error, Repeat::Safe))?;
    Ok(Json(ParticipantAdded {
        conversation_id: id,
        participant,
        position: done.position,
    }))
}
