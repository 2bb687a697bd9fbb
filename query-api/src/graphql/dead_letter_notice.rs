//! Dead letters as they come up: what they are, and the id under which `node` has the details.

use async_graphql::{ID, SimpleObject};
use chat4all_domain::{Position, Timestamp, delivery};
use chat4all_nats::Change;

use super::global_id::GlobalId;
use super::scalar::{Moment, Place};
use super::words::{DeadLetterKind, FailureReason};
use crate::live::{Entry, Update, What};

/// What one event made a dead letter.
#[derive(SimpleObject)]
pub struct DeadLetterUpdate {
    /// Resume behind it: up to here nothing is missing. Opaque.
    cursor: String,
    /// What became a dead letter; empty when only the cursor has moved.
    dead_letters: Vec<DeadLetterNotice>,
}

/// Something became a dead letter.
#[derive(SimpleObject)]
pub struct DeadLetterNotice {
    /// Names it among all nodes: `node` has it, with `atLeast` this position.
    id: ID,
    /// What kind of dead letter it is.
    kind: DeadLetterKind,
    /// When it became one.
    at: Moment,
    /// Where that stands in the log; null for what was put aside.
    position: Option<Place>,
    /// The conversation's id in commands and in REST; null for what was put aside.
    conversation_id: Option<ID>,
    /// Of a delivery: why it failed.
    failure_reason: Option<FailureReason>,
    /// Of what cannot be read, or was put aside: why, in our words.
    reason: Option<String>,
}

impl From<Update> for DeadLetterUpdate {
    fn from(update: Update) -> Self {
        Self {
            cursor: update.cursor,
            dead_letters: update.entry.as_deref().map(notices).unwrap_or_default(),
        }
    }
}

fn notices(entry: &Entry) -> Vec<DeadLetterNotice> {
    match &entry.what {
        What::Changed(Change::Delivery(id, events)) => {
            let failed = events.iter().filter_map(|one| match &one.event {
                delivery::Event::Failed { facts, .. } => Some((one.position, facts)),
                delivery::Event::Attempted { .. }
                | delivery::Event::Sent { .. }
                | delivery::Event::Delivered { .. }
                | delivery::Event::Read { .. }
                | delivery::Event::Deferred { .. }
                | delivery::Event::Redriven { .. } => None,
            });
            let notice = |(position, facts): (Position, &delivery::Failed)| DeadLetterNotice {
                id: GlobalId::FailedDelivery(id.conversation, id.message, facts.n).into(),
                kind: DeadLetterKind::FailedDelivery,
                at: Moment(facts.occurred_at),
                position: Some(Place(position)),
                conversation_id: Some(ID(id.conversation.to_string())),
                failure_reason: Some(facts.reason.into()),
                reason: None,
            };
            failed.map(notice).collect()
        }
        What::Changed(
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Reader(..)
            | Change::Identity(..),
        ) => Vec::new(),
        What::Unreadable {
            position,
            conversation,
            error,
        } => vec![DeadLetterNotice {
            id: GlobalId::PoisonEvent(*position).into(),
            kind: DeadLetterKind::PoisonEvent,
            at: Moment(Timestamp::from_unix_ms(entry.stored_at_ms)),
            position: Some(Place(*position)),
            conversation_id: conversation.map(|id| ID(id.to_string())),
            failure_reason: None,
            reason: Some(error.clone()),
        }],
        What::Parked(item) => vec![DeadLetterNotice {
            id: GlobalId::ParkedInbound(item.sequence).into(),
            kind: DeadLetterKind::ParkedInbound,
            at: Moment(item.parked_at),
            position: None,
            conversation_id: None,
            failure_reason: None,
            reason: Some(item.reason.clone()),
        }],
    }
}
