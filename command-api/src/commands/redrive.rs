//! `POST /v1/conversations/{conversation_id}/messages/{message_id}/redrive`: what failed is tried again, at the end of its lane.
//!
//! An operator's command: the scope is enough, whoever is in the conversation.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::StatusCode;
use chat4all_domain::delivery::{self, Command, Event, Rejection};
use chat4all_domain::message::PlannedDelivery;
use chat4all_domain::{ChannelKind, ConversationId, Message, MessageId, Position, message};
use chat4all_nats::execute::{self, Assume, Executed, Purpose};
use chat4all_service::http::{Json, Path};
use chat4all_service::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accepted::accepted;
use crate::CommandApi;
use crate::problem::{Explain, Repeat, of_execute};
use crate::request::{Allowed, Call, DeliveriesRedrive, Id, Mistakes};

/// Which deliveries to try again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redrive {
    /// Their numbers, as the message shows them (`deliveries[].number`); those that have not failed stay as they are. Left out: all
    /// that have failed.
    deliveries: Option<Vec<u16>>,
}

/// They are PENDING again.
#[derive(Debug, Serialize, ToSchema)]
#[cfg_attr(test, derive(Deserialize), serde(deny_unknown_fields))]
pub(crate) struct Redriven {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    message_id: MessageId,
    /// Those that are tried again, lowest number first.
    deliveries: Vec<u16>,
    /// Reading `at_least` up to here shows it.
    #[schema(value_type = String)]
    position: Position,
}

/// Tries failed deliveries again.
///
/// Each joins its lane behind what waits there already, and has the full time to be delivered anew. Sending the same request
/// again tries again what is FAILED by then, and is 409 when nothing is.
#[utoipa::path(
    post,
    path = "/v1/conversations/{conversation_id}/messages/{message_id}/redrive",
    tag = "messages",
    params(
        ("conversation_id" = Uuid, Path, description = "The conversation"),
        ("message_id" = Uuid, Path, description = "The message"),
        ("at_least" = Option<String>, Query, description = "Decide on what is known at this position or later"),
    ),
    request_body(content = Option<Redrive>, description = "May be left out: every failed delivery",
        example = json!({"deliveries": [0, 2]})),
    responses(
        (status = 202, description = "PENDING again, on the log, on disk", body = Redriven, example = json!({
            "conversation_id": "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d",
            "message_id": "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e",
            "deliveries": [0, 2],
            "position": "07-21",
        })),
        (status = 404, response = crate::openapi::NotFound),
        (status = 409, response = crate::openapi::Conflict),
        (status = 422, response = crate::openapi::Unprocessable),
        (status = 503, response = crate::openapi::Unavailable),
    ),
)]
pub(crate) async fn redrive(
    State(api): State<CommandApi>,
    Allowed { user, .. }: Allowed<DeliveriesRedrive>,
    call: Call,
    Path((conversation, message)): Path<(Id, Id)>,
    body: Option<Json<Redrive>>,
) -> Result<(StatusCode, Json<Redriven>), Problem> {
    let id = message::Id {
        conversation: ConversationId::new(conversation.0),
        message: MessageId::new(message.0),
    };
    let planned = planned(&api, &call, &id).await?;
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let wanted = body.understand(planned.len())?;
    let mut answer = None;
    for (kind, only) in by_kind(&planned, &wanted) {
        let delivery = delivery::Id {
            kind,
            conversation: id.conversation,
            message: id.message,
        };
        let redrive = Command::Redrive {
            only,
            by: user,
            at: call.now,
        };
        // Also when the log is nearly full: what was accepted is to arrive.
        let context = call.context(Purpose::Outcome, Assume::Nothing);
        let store = &api.stores().deliveries;
        match api
            .execute(store, &delivery, (redrive.name(), redrive), context)
            .await
        {
            Ok(done) => redriven(&mut answer, &id, &done),
            // Of this kind; another one's may have failed.
            Err(execute::Error::Rejected(Rejection::NothingFailed)) => {}
            Err(error) => return Err(of_execute(error, Repeat::WhatFailed)),
        }
    }
    let answer = answer.ok_or_else(|| Rejection::NothingFailed.explain())?;
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

impl Redrive {
    /// The wanted ones of `planned` deliveries.
    fn understand(self, planned: usize) -> Result<BTreeSet<u16>, Problem> {
        let mut mistakes = Mistakes::default();
        let all = || (0..u16::MAX).take(planned).collect();
        let wanted: BTreeSet<u16> = self.deliveries.map_or_else(all, |numbers| {
            if numbers.is_empty() {
                let detail =
                    "is empty; name at least one, or leave it out for all that have failed";
                mistakes.add("/deliveries", detail);
            }
            for (place, n) in numbers.iter().enumerate() {
                if usize::from(*n) >= planned {
                    let detail = match planned {
                        0 => "is not a delivery of this message: it has none".to_owned(),
                        _ => format!(
                            "is not a delivery of this message: they are 0 to {}",
                            planned - 1
                        ),
                    };
                    mistakes.add(format!("/deliveries/{place}"), detail);
                }
            }
            numbers.into_iter().collect()
        });
        mistakes.unless_any(Some(wanted))
    }
}

/// What the message is to be delivered to.
async fn planned(
    api: &CommandApi,
    call: &Call,
    id: &message::Id,
) -> Result<Vec<PlannedDelivery>, Problem> {
    let known = accepted(api, call, id).await?;
    match known.as_deref().map(|known| &known.state) {
        Some(Message::Accepted { deliveries, .. }) => Ok(deliveries.clone()),
        Some(Message::Absent) | None => Err(Problem::new(
            Code::NotFound,
            "There is no such message in such a conversation.",
        )),
    }
}

/// The wanted numbers by the channel kind whose deliveries they are.
fn by_kind(planned: &[PlannedDelivery], wanted: &BTreeSet<u16>) -> BTreeMap<ChannelKind, Vec<u16>> {
    let mut kinds: BTreeMap<_, Vec<u16>> = BTreeMap::new();
    for n in wanted {
        if let Some(delivery) = planned.get(usize::from(*n)) {
            kinds.entry(delivery.kind).or_default().push(*n);
        }
    }
    kinds
}

fn redriven(answer: &mut Option<Redriven>, id: &message::Id, done: &Executed<delivery::Delivery>) {
    let answer = answer.get_or_insert_with(|| Redriven {
        conversation_id: id.conversation,
        message_id: id.message,
        deliveries: Vec::new(),
        position: done.position,
    });
    // Deliveries live in their conversation's partition: the last append is the highest.
    answer.position = done.position;
    answer
        .deliveries
        .extend(done.events.iter().filter_map(|event| match event {
            Event::Redriven { facts } => Some(facts.n),
            _ => None,
        }));
    answer.deliveries.sort_unstable();
}

#[cfg(test)]
mod tests;
