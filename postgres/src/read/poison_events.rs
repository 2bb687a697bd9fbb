//! Events that the projector could not fold, newest first: dead letters. Their bytes stay where they are: those are personal.

use std::collections::BTreeMap;

use chat4all_domain::{ConversationId, Partition, Position, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::slice::limit;
use super::{Error, Range, Reads, Slice, column};

/// One event that could not be folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoisonEvent {
    /// Where it stands in the log.
    pub position: Position,
    /// Its subject.
    pub subject: String,
    /// What it calls itself; `None` when it does not say.
    pub event_types: Option<String>,
    /// The conversation that its subject names.
    pub conversation: Option<ConversationId>,
    /// What is wrong with it; nothing personal.
    pub error: String,
    /// When the log stored it.
    pub recorded_at: Timestamp,
}

/// Where one stands in the list: when it was stored, and its place to tell apart those of one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the log stored it.
    pub recorded_at: Timestamp,
    /// Where it stands in the log.
    pub position: Position,
}

impl From<&PoisonEvent> for Cursor {
    fn from(event: &PoisonEvent) -> Self {
        Self {
            recorded_at: event.recorded_at,
            position: event.position,
        }
    }
}

/// Names one: its partition, and its sequence there.
pub type Key = (Partition, u64);

/// Those under `keys`.
///
/// # Errors
/// See [`Error`].
pub async fn by_key(reads: &Reads, keys: &[Key]) -> Result<BTreeMap<Key, PoisonEvent>, Error> {
    let place = |(partition, sequence): &Key| Position::new(*partition, *sequence);
    let partitions: Vec<i16> = keys.iter().map(|key| partition(place(key))).collect();
    let sequences: Vec<i64> = keys.iter().map(|key| sequence(place(key))).collect();
    let rows: Vec<PoisonEvent> = reads
        .all(
            sqlx::query_as(
                "select d.partition, d.sequence, d.subject, d.event_types, d.conversation_id, d.error, d.recorded_at
                 from unnest($1::smallint[], $2::bigint[]) as wanted (partition, sequence)
                 join projector_dead_letter d using (partition, sequence)",
            )
            .bind(partitions)
            .bind(sequences),
        )
        .await?;
    let key = |row: &PoisonEvent| (row.position.partition, row.position.sequence);
    Ok(rows.into_iter().map(|row| (key(&row), row)).collect())
}

/// A part of the list; with `conversation`, of those about it. Both walk an index and stop at the page's end.
///
/// # Errors
/// See [`Error`].
pub async fn page(
    reads: &Reads,
    conversation: Option<ConversationId>,
    range: Range<Cursor>,
) -> Result<Slice<PoisonEvent>, Error> {
    let statement = match (conversation, range.from_end) {
        (None, false) => FIRST_OF_ALL,
        (None, true) => LAST_OF_ALL,
        (Some(_), false) => FIRST_OF_CONVERSATION,
        (Some(_), true) => LAST_OF_CONVERSATION,
    };
    let mut query = sqlx::query_as(statement);
    for cursor in [range.after, range.before] {
        query = query
            .bind(cursor.map(|cursor| cursor.recorded_at.to_datetime()))
            .bind(cursor.map(|cursor| partition(cursor.position)))
            .bind(cursor.map(|cursor| sequence(cursor.position)));
    }
    let query = query
        .bind(limit(range.size))
        .bind(conversation.map(|id| id.uuid()));
    let rows: Vec<PageRow> = reads.all(query).await?;
    let behind_cursors = rows
        .first()
        .map_or((false, false), |row| row.behind_cursors);
    let events = rows.into_iter().filter_map(|row| row.event);
    Ok(Slice::cut(
        events.collect(),
        range.size,
        range.from_end,
        behind_cursors,
    ))
}

fn partition(position: Position) -> i16 {
    i16::from(position.partition.number())
}

/// No event stands beyond what the column can hold.
fn sequence(position: Position) -> i64 {
    i64::try_from(position.sequence).unwrap_or(i64::MAX)
}

/// As in `failed_deliveries.rs`: what is absent of a cursor is never compared, and probes are ordered.
macro_rules! page {
    ($filter:literal, $order:literal) => {
        concat!(
            "with parked as not materialized (
                 select partition, sequence, subject, event_types, conversation_id, error, recorded_at
                 from projector_dead_letter
                 where ",
            $filter,
            ")
             select ends.*, page.*
             from (
                 select coalesce((
                            select true from parked
                            where (recorded_at, partition, sequence)
                                >= (coalesce($1::timestamptz, 'infinity'), $2::smallint, $3::bigint)
                            order by recorded_at, partition, sequence
                            limit 1
                        ), false) as more_before,
                        coalesce((
                            select true from parked
                            where (recorded_at, partition, sequence)
                                <= (coalesce($4::timestamptz, '-infinity'), $5::smallint, $6::bigint)
                            order by recorded_at desc, partition desc, sequence desc
                            limit 1
                        ), false) as more_after
             ) ends
             left join lateral (
                 select parked.*
                 from parked
                 where (recorded_at, partition, sequence)
                     < (coalesce($1::timestamptz, 'infinity'), $2::smallint, $3::bigint)
                   and (recorded_at, partition, sequence)
                     > (coalesce($4::timestamptz, '-infinity'), $5::smallint, $6::bigint)
                 order by ",
            $order,
            "    limit $7
             ) page on true
             order by ",
            $order
        )
    };
}
const FIRST_OF_ALL: &str = page!(
    "$8::uuid is null",
    "recorded_at desc, partition desc, sequence desc "
);
const LAST_OF_ALL: &str = page!("$8::uuid is null", "recorded_at, partition, sequence ");
const FIRST_OF_CONVERSATION: &str = page!(
    "conversation_id = $8",
    "recorded_at desc, partition desc, sequence desc "
);
const LAST_OF_CONVERSATION: &str =
    page!("conversation_id = $8", "recorded_at, partition, sequence ");

struct PageRow {
    behind_cursors: (bool, bool),
    /// None: the part is empty.
    event: Option<PoisonEvent>,
}

impl FromRow<'_, PgRow> for PageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let sequence: Option<i64> = row.try_get("sequence")?;
        Ok(Self {
            behind_cursors: (row.try_get("more_before")?, row.try_get("more_after")?),
            event: sequence.map(|_| PoisonEvent::from_row(row)).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for PoisonEvent {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let conversation: Option<Uuid> = row.try_get("conversation_id")?;
        Ok(Self {
            position: column::position(row, "sequence")?,
            subject: row.try_get("subject")?,
            event_types: row.try_get("event_types")?,
            conversation: conversation.map(ConversationId::new),
            error: row.try_get("error")?,
            recorded_at: column::moment(row, "recorded_at")?,
        })
    }
}
