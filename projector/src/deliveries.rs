//! `deliveries`: where each outside recipient's copy of a message stands. The lattice is the domain's own
//! [`Delivery::evolve`]; here its outcome becomes columns, and columns become its state again.

use std::collections::BTreeSet;

use chat4all_domain::delivery::{Delivery, Entry, Event, Failure, Id, Operation};
use chat4all_domain::{Recorded, Timestamp, message};
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::delivery::{self, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{Error, PgConnection};
use tracing::warn;
use uuid::Uuid;

use crate::rows::{Kept, Writing};

/// Conversation, message, and the delivery's number.
type Key = (Uuid, Uuid, i32);

#[derive(Default)]
pub(crate) struct Deliveries(Kept<Key, Known>);

/// One delivery: its row, and the domain's state of this one alone.
struct Known {
    row: Row,
    state: Delivery,
}

impl Deliveries {
    pub async fn load(&mut self, tx: &mut PgConnection, changes: &[&Change]) -> Result<(), Error> {
        // A message that was accepted before is refused by its own table: these deliveries are not there yet.
        let planned: BTreeSet<(Uuid, Uuid)> =
            changes.iter().filter_map(|change| plans(change)).collect();
        let touched = |change: &&Change| match change {
            Change::Delivery(id, _) => Some((id.conversation.uuid(), id.message.uuid())),
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Reader(..)
            | Change::Identity(..) => None,
        };
        let keys: BTreeSet<(Uuid, Uuid)> = changes
            .iter()
            .filter_map(touched)
            .filter(|key| self.is_unknown(*key) && !planned.contains(key))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = keys.into_iter().collect();
        let rows = delivery::load(tx, &keys).await?;
        let by_key = rows.into_iter().map(|row| {
            let state = state_of(&row);
            (
                (row.conversation_id, row.message_id, row.n),
                Known { row, state },
            )
        });
        self.0.loaded(by_key);
        Ok(())
    }

    /// A message's deliveries are known all, or none.
    fn is_unknown(&self, (conversation, message): (Uuid, Uuid)) -> bool {
        let first = (conversation, message, i32::MIN);
        !self
            .0
            .next(first, |of| (of.0, of.1) == (conversation, message))
    }

    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Message(id, events) => {
                for event in events {
                    self.planned(id, event);
                }
            }
            Change::Delivery(id, events) => {
                for event in events {
                    self.happened(id, event);
                }
            }
            Change::Conversation(..) | Change::Reader(..) | Change::Identity(..) => {}
        }
    }

    fn planned(&mut self, id: &message::Id, recorded: &Recorded<message::Event>) {
        match &recorded.event {
            message::Event::Accepted { facts, personal } => {
                for (n, planned) in (0_i32..).zip(&facts.deliveries) {
                    let address = personal.addresses.get(n as usize);
                    let key = (id.conversation.uuid(), id.message.uuid(), n);
                    self.0.add(key, || Known {
                        row: untouched(
                            key,
                            recorded,
                            planned,
                            address.map(|address| address.reveal().to_owned()),
                        ),
                        state: Delivery::default(),
                    });
                }
            }
        }
    }

    fn happened(&mut self, id: &Id, recorded: &Recorded<Event>) {
        let (n, operation) = recorded.event.key();
        match operation {
            Operation::Send => {}
        }
        let key = (id.conversation.uuid(), id.message.uuid(), i32::from(n));
        match self.0.change(key) {
            Some(known) => known.evolve(recorded, n),
            // Its message was parked: then this is history without a delivery to show.
            None => warn!(
                position = %recorded.position, message.id = %id.message,
                "the event at {} is about a delivery that no message planned", recorded.position
            ),
        }
    }

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        let (added, changed) = (
            self.0.added().map(|known| &known.row),
            self.0.changed().map(|known| &known.row),
        );
        let (copied, upserted): (Vec<&Row>, Vec<&Row>) = match writing {
            Writing::Upsert => (vec![], added.chain(changed).collect()),
            Writing::Copy => (added.collect(), changed.collect()),
        };
        if !copied.is_empty() {
            delivery::copy(tx, &copied).await?;
        }
        if !upserted.is_empty() {
            delivery::write(tx, &upserted).await?;
        }
        Ok(())
    }

    pub fn committed(&mut self) {
        self.0.committed();
    }
}

/// The message that this accepts, and plans deliveries of.
fn plans(change: &Change) -> Option<(Uuid, Uuid)> {
    match change {
        Change::Message(id, _) => Some((id.conversation.uuid(), id.message.uuid())),
        Change::Conversation(..)
        | Change::Delivery(..)
        | Change::Reader(..)
        | Change::Identity(..) => None,
    }
}

impl Known {
    fn evolve(&mut self, recorded: &Recorded<Event>, n: u16) {
        let before = self.state.entry(n, Operation::Send);
        self.state = std::mem::take(&mut self.state).evolve(&recorded.event);
        let after = self.state.entry(n, Operation::Send);
        let row = &mut self.row;
        // What the domain needs for no decision, and people like to see.
        match &recorded.event {
            Event::Attempted { facts } => row.attempted_at = Some(facts.occurred_at.to_datetime()),
            Event::Failed { facts, .. } => {
                if before.failed.is_none() {
                    row.provider_code.clone_from(&facts.provider_code);
                }
            }
            Event::Deferred { facts } => {
                row.deferred_class = Some(word(&facts.class));
                row.deferred_reason = Some(word(&facts.reason));
            }
            Event::Redriven { .. } => row.attempted_at = None,
            Event::Sent { .. } | Event::Delivered { .. } | Event::Read { .. } => {}
        }
        row.last_sequence = to_i64(recorded.position.sequence);
        show(&after, row);
    }
}

/// The columns of a delivery's state.
fn show(entry: &Entry, row: &mut Row) {
    let moment = |at: &Option<Timestamp>| at.map(|at| at.to_datetime());
    row.status = entry.status().as_str().to_owned();
    row.generation = i64::from(entry.generation);
    row.first_attempt = i64::from(entry.first_attempt);
    row.attempts = i64::from(entry.attempts);
    row.sent_at = moment(&entry.sent_at);
    row.delivered_at = moment(&entry.delivered_at);
    row.read_at = moment(&entry.read_at);
    row.failed_at = entry.failed.as_ref().map(|failed| failed.at.to_datetime());
    row.failure_class = entry.failed.as_ref().map(|failed| word(&failed.class));
    row.failure_reason = entry.failed.as_ref().map(|failed| word(&failed.reason));
    row.deferred_until = moment(&entry.deferred_until);
    if entry.failed.is_none() {
        row.provider_code = None;
    }
    if entry.deferred_until.is_none() {
        row.deferred_class = None;
        row.deferred_reason = None;
    }
}

/// The state behind the columns. What is in flight, and under which provider ids, only matters to who decides.
fn state_of(row: &Row) -> Delivery {
    let failed = || {
        Some(Failure {
            class: meaning(row.failure_class.as_deref()?)?,
            reason: meaning(row.failure_reason.as_deref()?)?,
            at: row.failed_at?.into(),
        })
    };
    let number = |column: i64| u32::try_from(column).unwrap_or_default();
    let entry = Entry {
        generation: number(row.generation),
        first_attempt: number(row.first_attempt),
        attempts: number(row.attempts),
        deferred_until: row.deferred_until.map(Timestamp::from),
        sent_at: row.sent_at.map(Timestamp::from),
        delivered_at: row.delivered_at.map(Timestamp::from),
        read_at: row.read_at.map(Timestamp::from),
        failed: failed(),
        ..Entry::default()
    };
    let n = u16::try_from(row.n).unwrap_or_default();
    // The form a state is stored in is the one way to hand the domain its own.
    let stored = json!({ "entries": [[[n, Operation::Send], entry]] });
    serde_json::from_value(stored).expect("a delivery reads back what it writes")
}

/// A delivery that was planned and not touched since.
fn untouched(
    (conversation_id, message_id, n): Key,
    recorded: &Recorded<message::Event>,
    planned: &message::PlannedDelivery,
    address: Option<String>,
) -> Row {
    Row {
        conversation_id,
        message_id,
        n,
        partition: i16::from(recorded.position.partition.number()),
        kind: planned.kind.as_str().to_owned(),
        account: planned.account.as_str().to_owned(),
        participant_id: planned.participant.uuid(),
        address,
        status: Entry::default().status().as_str().to_owned(),
        generation: 0,
        first_attempt: 0,
        attempts: 0,
        attempted_at: None,
        sent_at: None,
        delivered_at: None,
        read_at: None,
        failed_at: None,
        failure_class: None,
        failure_reason: None,
        provider_code: None,
        deferred_until: None,
        deferred_class: None,
        deferred_reason: None,
        last_sequence: to_i64(recorded.position.sequence),
    }
}

/// The word that stands on the log for one of the domain's vocabularies: `RATE_LIMITED`.
pub(crate) fn word(of: &impl Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(Value::String(word)) => word,
        Ok(_) | Err(_) => unreachable!("classes and reasons are written as one word"),
    }
}

fn meaning<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(Value::String(word.to_owned())).ok()
}
