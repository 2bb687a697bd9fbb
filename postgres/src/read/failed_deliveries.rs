//! Deliveries that have failed, newest failure first: dead letters. No reader's eyes here and nothing personal: whoever may
//! look at dead letters sees all of them, and no address.

use std::collections::BTreeMap;

use chat4all_domain::{
    AccountId, ChannelKind, ConversationId, MessageId, ParticipantId, Position, Timestamp,
};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::deliveries::Failed;
use super::slice::limit;
use super::{Error, Range, Reads, Slice, column};

/// Names a delivery: its conversation, its message, and its number there.
pub type Key = (ConversationId, MessageId, u16);

/// One delivery that has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedDelivery {
    /// Names it.
    pub key: Key,
    /// Who was to get it.
    pub participant: ParticipantId,
    /// The channel's kind.
    pub kind: ChannelKind,
    /// The account it went out through.
    pub account: AccountId,
    /// How often it was redriven.
    pub generation: u32,
    /// The attempts that were made.
    pub attempts: u32,
    /// When the last of them was made.
    pub attempted_at: Option<Timestamp>,
    /// When and why it failed.
    pub failed: Failed,
    /// The last event about it.
    pub position: Position,
}

/// Where a failed delivery stands in the list: when it failed, and its key to tell apart those of one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When it failed.
    pub failed_at: Timestamp,
    /// Names it.
    pub key: Key,
}

impl From<&FailedDelivery> for Cursor {
    fn from(delivery: &FailedDelivery) -> Self {
        Self {
            failed_at: delivery.failed.at,
            key: delivery.key,
        }
    }
}

/// Which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those that went out through it.
    pub account: Option<AccountId>,
    /// Only those in it.
    pub conversation: Option<ConversationId>,
}

/// Those under `keys` that have failed.
///
/// # Errors
/// See [`Error`].
pub async fn by_key(reads: &Reads, keys: &[Key]) -> Result<BTreeMap<Key, FailedDelivery>, Error> {
    let (mut conversations, mut messages, mut numbers) = (vec![], vec![], vec![]);
    for (conversation, message, n) in keys {
        conversations.push(conversation.uuid());
        messages.push(message.uuid());
        numbers.push(i32::from(*n));
    }
    let rows: Vec<FailedDelivery> = reads
        .all(
            sqlx::query_as(
                "select d.conversation_id, d.message_id, d.n, d.partition, d.kind, d.account, d.participant_id,
                        d.generation, d.attempts, d.attempted_at, d.failed_at, d.failure_class, d.failure_reason,
                        d.provider_code, d.last_sequence
                 from unnest($1::uuid[], $2::uuid[], $3::integer[]) as wanted (conversation_id, message_id, n)
                 join deliveries d using (conversation_id, message_id, n)
                 where d.failed_at is not null",
            )
            .bind(conversations)
            .bind(messages)
            .bind(numbers),
        )
        .await?;
    Ok(rows.into_iter().map(|row| (row.key, row)).collect())
}

/// Where messages stand on the log. What failed is tried again in this order.
///
/// # Errors
/// See [`Error`].
pub async fn messages_at(
    reads: &Reads,
    messages: &[(ConversationId, MessageId)],
) -> Result<BTreeMap<(ConversationId, MessageId), Position>, Error> {
    let conversations: Vec<Uuid> = messages.iter().map(|(id, _)| id.uuid()).collect();
    let ids: Vec<Uuid> = messages.iter().map(|(_, id)| id.uuid()).collect();
    let rows: Vec<MessageAt> = reads
        .all(
            sqlx::query_as(
                "select m.conversation_id, m.message_id, m.partition, m.sequence
                 from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, message_id)
                 join messages m using (conversation_id, message_id)",
            )
            .bind(conversations)
            .bind(ids),
        )
        .await?;
    Ok(rows.into_iter().map(|row| (row.message, row.at)).collect())
}

struct MessageAt {
    message: (ConversationId, MessageId),
    at: Position,
}

impl FromRow<'_, PgRow> for MessageAt {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            message: (
                ConversationId::new(row.try_get("conversation_id")?),
                MessageId::new(row.try_get("message_id")?),
            ),
            at: column::position(row, "sequence")?,
        })
    }
}

/// A part of the list of those that `filter` lets through. Each of the three ways to filter walks an index of its own and
/// stops at the page's end, however many there are.
///
/// # Errors
/// See [`Error`].
pub async fn page(
    reads: &Reads,
    filter: &Filter,
    range: Range<Cursor>,
) -> Result<Slice<FailedDelivery>, Error> {
    let statement = match (&filter.conversation, &filter.account, range.from_end) {
        (Some(_), _, false) => FIRST_OF_CONVERSATION,
        (Some(_), _, true) => LAST_OF_CONVERSATION,
        (None, Some(_), false) => FIRST_OF_ACCOUNT,
        (None, Some(_), true) => LAST_OF_ACCOUNT,
        (None, None, false) => FIRST_OF_ALL,
        (None, None, true) => LAST_OF_ALL,
    };
    let mut query = sqlx::query_as(statement);
    for cursor in [range.after, range.before] {
        let key = cursor.map(|cursor| cursor.key);
        query = query
            .bind(cursor.map(|cursor| cursor.failed_at.to_datetime()))
            .bind(key.map(|(conversation, ..)| conversation.uuid()))
            .bind(key.map(|(_, message, _)| message.uuid()))
            .bind(key.map(|(.., n)| i32::from(n)));
    }
    let query = query
        .bind(limit(range.size))
        .bind(filter.account.as_ref().map(AccountId::as_str))
        .bind(filter.conversation.map(|id| id.uuid()));
    let rows: Vec<PageRow> = reads.all(query).await?;
    let behind_cursors = rows
        .first()
        .map_or((false, false), |row| row.behind_cursors);
    let deliveries = rows.into_iter().filter_map(|row| row.delivery);
    Ok(Slice::cut(
        deliveries.collect(),
        range.size,
        range.from_end,
        behind_cursors,
    ))
}

/// Rows are compared column by column until two differ: beside a time that nothing is beyond, the rest of an absent cursor
/// may be null. The probes beyond the ends are ordered, so that they walk the index even when there is nothing to find.
macro_rules! page {
    ($filter:literal, $order:literal) => {
        concat!(
            "with failed as not materialized (
                 select conversation_id, message_id, n, partition, kind, account, participant_id, generation, attempts,
                        attempted_at, failed_at, failure_class, failure_reason, provider_code, last_sequence
                 from deliveries
                 where failed_at is not null and ",
            $filter,
            ")
             select ends.*, page.*
             from (
                 select coalesce((
                            select true from failed
                            where (failed_at, conversation_id, message_id, n)
                                >= (coalesce($1::timestamptz, 'infinity'), $2::uuid, $3::uuid, $4::integer)
                            order by failed_at, conversation_id, message_id, n
                            limit 1
                        ), false) as more_before,
                        coalesce((
                            select true from failed
                            where (failed_at, conversation_id, message_id, n)
                                <= (coalesce($5::timestamptz, '-infinity'), $6::uuid, $7::uuid, $8::integer)
                            order by failed_at desc, conversation_id desc, message_id desc, n desc
                            limit 1
                        ), false) as more_after
             ) ends
             left join lateral (
                 select failed.*
                 from failed
                 where (failed_at, conversation_id, message_id, n)
                     < (coalesce($1::timestamptz, 'infinity'), $2::uuid, $3::uuid, $4::integer)
                   and (failed_at, conversation_id, message_id, n)
                     > (coalesce($5::timestamptz, '-infinity'), $6::uuid, $7::uuid, $8::integer)
                 order by ",
            $order,
            "    limit $9
             ) page on true
             order by ",
            $order
        )
    };
}
macro_rules! first {
    ($filter:literal) => {
        page!(
            $filter,
            "failed_at desc, conversation_id desc, message_id desc, n desc "
        )
    };
}
macro_rules! last {
    ($filter:literal) => {
        page!($filter, "failed_at, conversation_id, message_id, n ")
    };
}
// Parameters without a part in a statement are there all the same: it must know their types.
const FIRST_OF_ALL: &str = first!("$10::text is null and $11::uuid is null");
const LAST_OF_ALL: &str = last!("$10::text is null and $11::uuid is null");
const FIRST_OF_ACCOUNT: &str = first!("account = $10 and $11::uuid is null");
const LAST_OF_ACCOUNT: &str = last!("account = $10 and $11::uuid is null");
const FIRST_OF_CONVERSATION: &str =
    first!("conversation_id = $11 and ($10::text is null or account = $10)");
const LAST_OF_CONVERSATION: &str =
    last!("conversation_id = $11 and ($10::text is null or account = $10)");

struct PageRow {
    behind_cursors: (bool, bool),
    /// None: the part is empty.
    delivery: Option<FailedDelivery>,
}

impl FromRow<'_, PgRow> for PageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let id: Option<Uuid> = row.try_get("conversation_id")?;
        Ok(Self {
            behind_cursors: (row.try_get("more_before")?, row.try_get("more_after")?),
            delivery: id.map(|_| FailedDelivery::from_row(row)).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for FailedDelivery {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            key: (
                ConversationId::new(row.try_get("conversation_id")?),
                MessageId::new(row.try_get("message_id")?),
                column::number(row)?,
            ),
            participant: ParticipantId::new(row.try_get("participant_id")?),
            kind: column::parsed(row, "kind")?,
            account: column::parsed(row, "account")?,
            generation: column::count(row, "generation")?,
            attempts: column::count(row, "attempts")?,
            attempted_at: column::optional_moment(row, "attempted_at")?,
            failed: Failed {
                at: column::moment(row, "failed_at")?,
                class: column::word(row, "failure_class")?,
                reason: column::word(row, "failure_reason")?,
                provider_code: row.try_get("provider_code")?,
            },
            position: column::position(row, "last_sequence")?,
        })
    }
}
