//! Conversations, by last activity. A reader sees those they are or were in; of one they have left, only what was known
//! when they left.

use std::collections::BTreeMap;

use chat4all_domain::conversation::Kind;
use chat4all_domain::{ConversationId, Position, Text, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::slice::limit;
use super::{Error, Range, Reader, Reads, Slice, column};

/// One conversation as a reader knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Names it.
    pub id: ConversationId,
    /// Direct or group.
    pub kind: Kind,
    /// What it is called.
    pub title: Option<Text>,
    /// When it was started.
    pub started_at: Timestamp,
    /// Where it was started: also says which partition everything in it is in.
    pub started: Position,
    /// The last thing that happened in it; for a reader who has left, when they left.
    pub last_activity_at: Timestamp,
    /// How many messages it has; `None` for a reader who has left.
    pub message_count: Option<u64>,
    /// The sequence at which the reader left for good: nothing behind it is theirs to know. `None` while they are in it,
    /// or see everything.
    pub left_at_sequence: Option<u64>,
}

/// Where a conversation stands in the list: its last activity, and its id to tell apart those of one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// [`Conversation::last_activity_at`].
    pub last_activity_at: Timestamp,
    /// [`Conversation::id`].
    pub id: ConversationId,
}

/// The conversations under `ids`, those that `reader` may see.
///
/// # Errors
/// See [`Error`].
pub async fn by_id(
    reads: &Reads,
    reader: Reader,
    ids: &[ConversationId],
) -> Result<BTreeMap<ConversationId, Conversation>, Error> {
    let wanted: Vec<Uuid> = ids.iter().map(ConversationId::uuid).collect();
    let rows: Vec<Conversation> = reads
        .all(
            sqlx::query_as(
                "select c.*,
                        case when $3 or stays.open then c.last_activity_at else stays.left_at end as known_at,
                        case when $3 or stays.open then null else stays.left_sequence end as left_at_sequence
                 from unnest($1::uuid[]) as wanted (conversation_id)
                 join conversations c using (conversation_id)
                 cross join lateral (
                     select count(*) as number,
                            bool_or(p.left_sequence is null) as open,
                            max(p.left_at) as left_at,
                            max(p.left_sequence) as left_sequence
                     from participants p
                     where p.user_id = $2 and p.conversation_id = c.conversation_id
                 ) stays
                 where $3 or stays.number > 0",
            )
            .bind(wanted)
            .bind(reader.user.uuid())
            .bind(reader.sees_all),
        )
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// A part of the list of conversations that `reader` may see, latest activity first. With `only_own` those they are or
/// were in, whatever else they may see.
///
/// Cost: everybody's are walked by the index `conversations_by_activity` and stop at the page's end; one's own are read
/// by `participants_by_user` and sorted, so that grows with the number of conversations one is in.
///
/// # Errors
/// See [`Error`].
pub async fn page(
    reads: &Reads,
    reader: Reader,
    only_own: bool,
    range: Range<Cursor>,
) -> Result<Slice<Conversation>, Error> {
    let everybodys = reader.sees_all && !only_own;
    let statement = match (everybodys, range.from_end) {
        (true, false) => FIRST_OF_ALL,
        (true, true) => LAST_OF_ALL,
        (false, false) => FIRST_OF_MINE,
        (false, true) => LAST_OF_MINE,
    };
    // Nothing is later than the end of time, and nothing earlier than its beginning.
    let after = range.after.unwrap_or(Cursor {
        last_activity_at: Timestamp::from_unix_ms(i64::MAX),
        id: ConversationId::new(Uuid::nil()),
    });
    let before = range.before.unwrap_or(Cursor {
        last_activity_at: Timestamp::from_unix_ms(i64::MIN),
        id: ConversationId::new(Uuid::max()),
    });
    let rows: Vec<PageRow> = reads
        .all(
            sqlx::query_as(statement)
                .bind(reader.user.uuid())
                .bind(reader.sees_all)
                .bind(after.last_activity_at.to_datetime())
                .bind(after.id.uuid())
                .bind(before.last_activity_at.to_datetime())
                .bind(before.id.uuid())
                .bind(limit(range.size)),
        )
        .await?;
    let behind_cursors = rows
        .first()
        .map_or((false, false), |row| row.behind_cursors);
    let conversations = rows.into_iter().filter_map(|row| row.conversation);
    Ok(Slice::cut(
        conversations.collect(),
        range.size,
        range.from_end,
        behind_cursors,
    ))
}

macro_rules! mine {
    () => {
        "with seen as materialized (
             select c.*,
                    case when $2 or stays.open then c.last_activity_at else stays.left_at end as known_at,
                    case when $2 or stays.open then null else stays.left_sequence end as left_at_sequence
             from (
                 select p.conversation_id,
                        bool_or(p.left_sequence is null) as open,
                        max(p.left_at) as left_at,
                        max(p.left_sequence) as left_sequence
                 from participants p
                 where p.user_id = $1
                 group by p.conversation_id
             ) stays
             join conversations c using (conversation_id)
         ) "
    };
}
macro_rules! all {
    () => {
        // The first two parameters have no part in it, but a statement must know their types.
        "with seen as not materialized (
             select c.*, c.last_activity_at as known_at, null::bigint as left_at_sequence
             from conversations c
             where $1::uuid is not null and $2::boolean
         ) "
    };
}
/// The probes beyond the ends are no `exists`: there the planner expects to find something soon, scans, and reads the whole
/// table when there is nothing. With an order it walks the index.
macro_rules! page {
    ($order:literal) => {
        concat!(
            "select ends.*, page.*
             from (
                 select coalesce((
                            select true from seen
                            where known_at >= $3 and (known_at > $3 or conversation_id <= $4)
                            order by known_at, conversation_id desc
                            limit 1
                        ), false) as more_before,
                        coalesce((
                            select true from seen
                            where known_at <= $5 and (known_at < $5 or conversation_id >= $6)
                            order by known_at desc, conversation_id
                            limit 1
                        ), false) as more_after
             ) ends
             left join lateral (
                 select seen.*
                 from seen
                 where known_at <= $3 and (known_at < $3 or conversation_id > $4)
                   and known_at >= $5 and (known_at > $5 or conversation_id < $6)
                 order by ",
            $order,
            "    limit $7
             ) page on true
             order by ",
            $order
        )
    };
}
const FIRST_OF_ALL: &str = concat!(all!(), page!("known_at desc, conversation_id "));
const LAST_OF_ALL: &str = concat!(all!(), page!("known_at, conversation_id desc "));
const FIRST_OF_MINE: &str = concat!(mine!(), page!("known_at desc, conversation_id "));
const LAST_OF_MINE: &str = concat!(mine!(), page!("known_at, conversation_id desc "));

struct PageRow {
    behind_cursors: (bool, bool),
    /// None: the part is empty.
    conversation: Option<Conversation>,
}

impl FromRow<'_, PgRow> for PageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let id: Option<Uuid> = row.try_get("conversation_id")?;
        Ok(Self {
            behind_cursors: (row.try_get("more_before")?, row.try_get("more_after")?),
            conversation: id.map(|_| Conversation::from_row(row)).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for Conversation {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let left_at_sequence = column::optional_count(row, "left_at_sequence")?;
        let message_count = column::count(row, "message_count")?;
        Ok(Self {
            id: ConversationId::new(row.try_get("conversation_id")?),
            kind: column::word(row, "kind")?,
            title: column::optional_word(row, "title")?,
            started_at: column::moment(row, "started_at")?,
            started: column::position(row, "started_sequence")?,
            last_activity_at: column::moment(row, "known_at")?,
            message_count: left_at_sequence.is_none().then_some(message_count),
            left_at_sequence,
        })
    }
}
