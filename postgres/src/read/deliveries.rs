//! Deliveries of messages, what they add up to, and what happened to them. The caller has seen to it that the reader may
//! see the messages.

use std::collections::BTreeMap;

use chat4all_domain::delivery::{FailureClass, Reason, Status};
use chat4all_domain::{
    AccountId, Address, ChannelKind, ConversationId, MessageId, ParticipantId, Partition,
    Timestamp, UserId,
};
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};

use super::messages::split;
use super::{Error, Reads, column};

/// Names a message.
pub type Key = (ConversationId, MessageId);

/// One delivery as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The message it delivers.
    pub message: Key,
    /// The partition that sequences of its events count in.
    pub partition: Partition,
    /// Its number within the message.
    pub n: u16,
    /// Who is to get it.
    pub participant: ParticipantId,
    /// The channel's kind.
    pub kind: ChannelKind,
    /// The account it goes out through.
    pub account: AccountId,
    /// The address it goes to.
    pub address: Option<Address>,
    /// What its steps add up to.
    pub status: Status,
    /// How often it was redriven.
    pub generation: u32,
    /// The last attempt made; 0 when none was.
    pub attempts: u32,
    /// When the last attempt was made.
    pub attempted_at: Option<Timestamp>,
    /// When the provider took it.
    pub sent_at: Option<Timestamp>,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
    /// When it was seen.
    pub read_at: Option<Timestamp>,
    /// When and why it failed; `None` unless it did.
    pub failed: Option<Failed>,
    /// Until when and why it waits; `None` unless it does.
    pub waiting: Option<Waiting>,
}

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// When.
    pub at: Timestamp,
    /// What kind of failure.
    pub class: FailureClass,
    /// Why.
    pub reason: Reason,
    /// The provider's error code.
    pub provider_code: Option<String>,
}

/// Why a delivery waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The next attempt is not before this moment.
    pub until: Timestamp,
    /// What kind of failure it waits after.
    pub class: FailureClass,
    /// Why.
    pub reason: Reason,
}

/// How many of a message's deliveries stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Not handed over yet.
    pub pending: u32,
    /// Taken by the provider.
    pub sent: u32,
    /// Arrived.
    pub delivered: u32,
    /// Seen.
    pub read: u32,
    /// Failed.
    pub failed: u32,
}

impl Tally {
    /// What the deliveries add up to: the least of those that have not failed, FAILED only when all have. `None` for a
    /// message that goes to nobody outside.
    pub fn status(&self) -> Option<Status> {
        let steps = [
            (self.pending, Status::Pending),
            (self.sent, Status::Sent),
            (self.delivered, Status::Delivered),
            (self.read, Status::Read),
            (self.failed, Status::Failed),
        ];
        steps
            .into_iter()
            .find(|(number, _)| *number > 0)
            .map(|(_, status)| status)
    }

    /// Of deliveries that were read together: what is shown beside them must not be from another moment.
    pub fn of(deliveries: &[Delivery]) -> Self {
        let mut tally = Self::default();
        for delivery in deliveries {
            tally.count(delivery.status, 1);
        }
        tally
    }

    fn count(&mut self, status: Status, number: u32) {
        let place = match status {
            Status::Pending => &mut self.pending,
            Status::Sent => &mut self.sent,
            Status::Failed => &mut self.failed,
            Status::Delivered => &mut self.delivered,
            Status::Read => &mut self.read,
        };
        *place += number;
    }
}

/// One thing that happened to a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// The delivery's number within the message.
    pub n: u16,
    /// The event's place in the conversation's partition.
    pub sequence: u64,
    /// Which of its envelope's events it is, from 0.
    pub index: u16,
    /// `DeliveryAttempted`, …
    pub event: String,
    /// The attempt it is about; `None` for a redrive.
    pub attempt: Option<u32>,
    /// When, by the clock of whoever noticed.
    pub occurred_at: Timestamp,
    /// When it was recorded, by ours.
    pub recorded_at: Timestamp,
    /// What else the event says.
    pub details: Details,
}

/// What only some events say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Details {
    /// `DeliveryFailed`, `DeliveryDeferred`: what kind of failure.
    pub class: Option<FailureClass>,
    /// `DeliveryFailed`, `DeliveryDeferred`: why.
    pub reason: Option<Reason>,
    /// `DeliveryFailed`: the provider's error code.
    pub provider_code: Option<String>,
    /// `DeliveryDeferred`: until when.
    pub until: Option<Timestamp>,
    /// `DeliveryRedriven`: which generation it opened.
    pub generation: Option<u32>,
    /// `DeliveryRedriven`: who asked for it.
    pub by: Option<UserId>,
}

/// The deliveries of each of these messages, by number.
///
/// # Errors
/// See [`Error`].
pub async fn of_messages(
    reads: &Reads,
    keys: &[Key],
) -> Result<BTreeMap<Key, Vec<Delivery>>, Error> {
    let (conversations, messages) = split(keys);
    let rows: Vec<Delivery> = reads
        .all(
            sqlx::query_as(
                "select d.*
                 from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, message_id)
                 join deliveries d using (conversation_id, message_id)
                 order by d.conversation_id, d.message_id, d.n",
            )
            .bind(conversations)
            .bind(messages),
        )
        .await?;
    let mut deliveries: BTreeMap<Key, Vec<Delivery>> = BTreeMap::new();
    for delivery in rows {
        deliveries
            .entry(delivery.message)
            .or_default()
            .push(delivery);
    }
    Ok(deliveries)
}

/// How many deliveries of each of these messages stand where. A message without deliveries is left out.
///
/// # Errors
/// See [`Error`].
pub async fn tallies(reads: &Reads, keys: &[Key]) -> Result<BTreeMap<Key, Tally>, Error> {
    let (conversations, messages) = split(keys);
    let rows: Vec<Counted> = reads
        .all(
            sqlx::query_as(
                "select d.conversation_id, d.message_id, d.status, count(*) as number
                 from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, message_id)
                 join deliveries d using (conversation_id, message_id)
                 group by d.conversation_id, d.message_id, d.status",
            )
            .bind(conversations)
            .bind(messages),
        )
        .await?;
    let mut tallies: BTreeMap<Key, Tally> = BTreeMap::new();
    for row in rows {
        let tally = tallies.entry(row.message).or_default();
        tally.count(row.status, row.number);
    }
    Ok(tallies)
}

/// What happened to the deliveries of each of these messages, in the order of the log.
///
/// # Errors
/// See [`Error`].
pub async fn histories(reads: &Reads, keys: &[Key]) -> Result<BTreeMap<Key, Vec<Happened>>, Error> {
    let (conversations, messages) = split(keys);
    let rows: Vec<HappenedRow> = reads
        .all(
            sqlx::query_as(
                "select e.*
                 from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, message_id)
                 join delivery_events e using (conversation_id, message_id)
                 order by e.conversation_id, e.message_id, e.sequence, e.event_index",
            )
            .bind(conversations)
            .bind(messages),
        )
        .await?;
    let mut histories: BTreeMap<Key, Vec<Happened>> = BTreeMap::new();
    for row in rows {
        histories.entry(row.message).or_default().push(row.happened);
    }
    Ok(histories)
}

fn message(row: &PgRow) -> sqlx::Result<Key> {
    Ok((
        ConversationId::new(row.try_get("conversation_id")?),
        MessageId::new(row.try_get("message_id")?),
    ))
}

struct Counted {
    message: Key,
    status: Status,
    number: u32,
}

impl FromRow<'_, PgRow> for Counted {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            message: message(row)?,
            status: column::word(row, "status")?,
            number: column::count(row, "number")?,
        })
    }
}

impl FromRow<'_, PgRow> for Delivery {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let failed = match column::optional_moment(row, "failed_at")? {
            None => None,
            Some(at) => Some(Failed {
                at,
                class: column::word(row, "failure_class")?,
                reason: column::word(row, "failure_reason")?,
                provider_code: row.try_get("provider_code")?,
            }),
        };
        let waiting = match column::optional_moment(row, "deferred_until")? {
            None => None,
            Some(until) => Some(Waiting {
                until,
                class: column::word(row, "deferred_class")?,
                reason: column::word(row, "deferred_reason")?,
            }),
        };
        Ok(Self {
            message: message(row)?,
            partition: column::position(row, "last_sequence")?.partition,
            n: column::number(row)?,
            participant: ParticipantId::new(row.try_get("participant_id")?),
            kind: column::parsed(row, "kind")?,
            account: column::parsed(row, "account")?,
            address: column::optional_address(row, "address")?,
            status: column::word(row, "status")?,
            generation: column::count(row, "generation")?,
            attempts: column::count(row, "attempts")?,
            attempted_at: column::optional_moment(row, "attempted_at")?,
            sent_at: column::optional_moment(row, "sent_at")?,
            delivered_at: column::optional_moment(row, "delivered_at")?,
            read_at: column::optional_moment(row, "read_at")?,
            failed,
            waiting,
        })
    }
}

struct HappenedRow {
    message: Key,
    happened: Happened,
}

impl FromRow<'_, PgRow> for HappenedRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let index: i32 = row.try_get("event_index")?;
        let Json(details) = row.try_get("details")?;
        Ok(Self {
            message: message(row)?,
            happened: Happened {
                n: column::number(row)?,
                sequence: column::count(row, "sequence")?,
                index: u16::try_from(index).unwrap_or(u16::MAX),
                event: row.try_get("type")?,
                attempt: column::optional_count(row, "attempt")?,
                occurred_at: column::moment(row, "occurred_at")?,
                recorded_at: column::moment(row, "recorded_at")?,
                details,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_far_as_the_least_of_its_deliveries_that_have_not_failed() {
        let of = |numbers: [u32; 5]| {
            let [pending, sent, delivered, read, failed] = numbers;
            Tally {
                pending,
                sent,
                delivered,
                read,
                failed,
            }
            .status()
        };
        assert_eq!(of([0, 0, 0, 0, 0]), None);
        assert_eq!(of([1, 2, 3, 4, 5]), Some(Status::Pending));
        assert_eq!(of([0, 2, 3, 4, 5]), Some(Status::Sent));
        assert_eq!(of([0, 0, 3, 4, 5]), Some(Status::Delivered));
        assert_eq!(of([0, 0, 0, 4, 5]), Some(Status::Read));
        assert_eq!(of([0, 0, 0, 0, 5]), Some(Status::Failed));
    }
}
