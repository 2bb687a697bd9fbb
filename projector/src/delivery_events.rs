//! `delivery_events`: what happened to each delivery, step by step.

use chat4all_domain::delivery::{Event, Id};
use chat4all_domain::{Event as _, Recorded};
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::delivery_event::{self, Row};
use serde_json::{Value, json};
use sqlx::{Error, PgConnection};

use crate::rows::Writing;

#[derive(Default)]
pub(crate) struct DeliveryEvents(Vec<Row>);

impl DeliveryEvents {
    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Delivery(id, events) => {
                self.0.extend(events.iter().map(|event| row(id, event)));
            }
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Reader(..)
            | Change::Identity(..) => {}
        }
    }

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        match writing {
            _ if self.0.is_empty() => Ok(()),
            Writing::Upsert => delivery_event::insert(tx, &self.0).await,
            Writing::Copy => delivery_event::copy(tx, &self.0).await,
        }
    }

    pub fn committed(&mut self) {
        self.0.clear();
    }
}

fn row(id: &Id, recorded: &Recorded<Event>) -> Row {
    let (n, _) = recorded.event.key();
    let (attempt, occurred_at) = match &recorded.event {
        Event::Attempted { facts } => (Some(facts.attempt), facts.occurred_at),
        Event::Sent { facts, .. } => (Some(facts.attempt), facts.occurred_at),
        Event::Delivered { facts } | Event::Read { facts } => {
            (Some(facts.attempt), facts.occurred_at)
        }
        Event::Failed { facts, .. } => (Some(facts.attempt), facts.occurred_at),
        // Waiting begins when it is written down.
        Event::Deferred { facts } => (Some(facts.attempt), recorded.recorded_at),
        Event::Redriven { facts } => (None, facts.occurred_at),
    };
    Row {
        conversation_id: id.conversation.uuid(),
        message_id: id.message.uuid(),
        n: i32::from(n),
        sequence: to_i64(recorded.position.sequence),
        event_index: i32::from(recorded.index),
        event_type: recorded.event.name().to_owned(),
        attempt: attempt.map(i64::from),
        occurred_at: occurred_at.to_datetime(),
        recorded_at: recorded.recorded_at.to_datetime(),
        details: details(&recorded.event),
    }
}

/// The facts that have no column. Providers' own words and ids stay out: they may contain the recipient's number.
fn details(event: &Event) -> Value {
    match event {
        Event::Attempted { facts } => json!({ "owner": facts.owner }),
        Event::Sent { .. } | Event::Delivered { .. } | Event::Read { .. } => json!({}),
        Event::Failed { facts, .. } => json!({
            "class": facts.class,
            "reason": facts.reason,
            "provider_code": facts.provider_code,
        }),
        Event::Deferred { facts } => json!({
            "class": facts.class,
            "reason": facts.reason,
            "until": facts.until,
        }),
        Event::Redriven { facts } => json!({ "generation": facts.generation, "by": facts.by }),
    }
}
