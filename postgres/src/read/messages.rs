//! Messages, in the order of their conversation. A reader sees those that lie within one of their stays.

use std::collections::BTreeMap;

use chat4all_domain::message::{Content, Origin};
use chat4all_domain::{ConversationId, MessageId, ParticipantId, Position, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::slice::limit;
use super::{Error, Range, Reader, Reads, Slice, column};

/// One message as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The conversation it is in.
    pub conversation: ConversationId,
    /// Names it there.
    pub id: MessageId,
    /// Its place: the order of the conversation.
    pub position: Position,
    /// Who wrote it.
    pub author: ParticipantId,
    /// How it came to us.
    pub origin: Origin,
    /// What it says.
    pub content: Content,
    /// When it was written: for a channel's message by the provider's clock.
    pub occurred_at: Timestamp,
    /// When it was recorded, by ours.
    pub recorded_at: Timestamp,
    /// Deliveries that have not left by then expire.
    pub valid_until: Timestamp,
}

/// The messages under `keys`, those that `reader` may see.
///
/// # Errors
/// See [`Error`].
pub async fn by_key(
    reads: &Reads,
    reader: Reader,
    keys: &[(ConversationId, MessageId)],
) -> Result<BTreeMap<(ConversationId, MessageId), Message>, Error> {
    let (conversations, messages) = split(keys);
    let rows: Vec<Message> = reads
        .all(
            sqlx::query_as(
                "select m.*
                 from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, message_id)
                 join messages m using (conversation_id, message_id)
                 where $4
                    or exists (
                        select from participants p
                        where p.conversation_id = m.conversation_id
                          and p.user_id = $3
                          and p.joined_sequence < m.sequence
                          and (p.left_sequence is null or p.left_sequence > m.sequence)
                    )",
            )
            .bind(conversations)
            .bind(messages)
            .bind(reader.user.uuid())
            .bind(reader.sees_all),
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|message| ((message.conversation, message.id), message))
        .collect())
}

/// The two columns of keys.
pub(super) fn split(keys: &[(ConversationId, MessageId)]) -> (Vec<Uuid>, Vec<Uuid>) {
    keys.iter()
        .map(|(conversation, message)| (conversation.uuid(), message.uuid()))
        .unzip()
}

/// The same part of several conversations, the messages that `reader` may see; cursors are sequences. A conversation that
/// the reader knows nothing of has an empty part.
///
/// # Errors
/// See [`Error`].
pub async fn pages(
    reads: &Reads,
    reader: Reader,
    conversations: &[ConversationId],
    range: Range<u64>,
) -> Result<BTreeMap<ConversationId, Slice<Message>>, Error> {
    let statement = if range.from_end { LAST } else { FIRST };
    let sequence = |cursor: u64| i64::try_from(cursor).unwrap_or(i64::MAX);
    let wanted: Vec<Uuid> = conversations.iter().map(ConversationId::uuid).collect();
    let rows: Vec<PageRow> = reads
        .all(
            sqlx::query_as(statement)
                .bind(wanted)
                .bind(reader.user.uuid())
                .bind(reader.sees_all)
                .bind(range.after.map_or(i64::MIN, sequence))
                .bind(range.before.map_or(i64::MAX, sequence))
                .bind(limit(range.size)),
        )
        .await?;
    let mut read: BTreeMap<ConversationId, (Vec<Message>, (bool, bool))> = BTreeMap::new();
    for row in rows {
        let (messages, behind_cursors) = read.entry(row.conversation).or_default();
        *behind_cursors = row.behind_cursors;
        messages.extend(row.message);
    }
    Ok(read
        .into_iter()
        .map(|(conversation, (messages, behind_cursors))| {
            let slice = Slice::cut(messages, range.size, range.from_end, behind_cursors);
            (conversation, slice)
        })
        .collect())
}

/// Each stay is walked by the index `messages_in_order` and stops at the page's end: how many messages there are, or how
/// many came after somebody has left, does not matter.
macro_rules! pages {
    ($order:literal) => {
        concat!(
            "with wanted as (
                select conversation_id from unnest($1::uuid[]) as conversation_id
            ),
            visible as (
                select w.conversation_id,
                       p.joined_sequence as low,
                       coalesce(p.left_sequence, 9223372036854775807) as high
                from wanted w
                join participants p on p.conversation_id = w.conversation_id and p.user_id = $2
                where not $3
                union all
                select conversation_id, -1, 9223372036854775807
                from wanted
                where $3
            )
            select w.conversation_id as wanted_id,
                   exists (
                       select from visible v
                       join messages m on m.conversation_id = v.conversation_id
                       where v.conversation_id = w.conversation_id
                         and m.sequence > v.low and m.sequence < v.high and m.sequence <= $4
                   ) as more_before,
                   exists (
                       select from visible v
                       join messages m on m.conversation_id = v.conversation_id
                       where v.conversation_id = w.conversation_id
                         and m.sequence > v.low and m.sequence < v.high and m.sequence >= $5
                   ) as more_after,
                   page.*
            from wanted w
            left join lateral (
                select stay.*
                from visible v
                cross join lateral (
                    select m.*
                    from messages m
                    where m.conversation_id = v.conversation_id
                      and m.sequence > greatest(v.low, $4)
                      and m.sequence < least(v.high, $5)
                    order by m.sequence ",
            $order,
            "       limit $6
                ) stay
                where v.conversation_id = w.conversation_id
                order by stay.sequence ",
            $order,
            "   limit $6
            ) page on true
            order by w.conversation_id, page.sequence ",
            $order
        )
    };
}
const FIRST: &str = pages!("asc ");
const LAST: &str = pages!("desc ");

struct PageRow {
    conversation: ConversationId,
    behind_cursors: (bool, bool),
    /// None: the part is empty.
    message: Option<Message>,
}

impl FromRow<'_, PgRow> for PageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let id: Option<Uuid> = row.try_get("message_id")?;
        Ok(Self {
            conversation: ConversationId::new(row.try_get("wanted_id")?),
            behind_cursors: (row.try_get("more_before")?, row.try_get("more_after")?),
            message: id.map(|_| Message::from_row(row)).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for Message {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let origin = match column::optional_parsed(row, "account")? {
            None => Origin::Api,
            Some(account) => Origin::Channel { account },
        };
        let content = match row.try_get("content_type")? {
            "text" => Content::Text {
                text: column::word(row, "content_text")?,
            },
            _ => Content::Unsupported {
                what: row.try_get("placeholder")?,
            },
        };
        Ok(Self {
            conversation: ConversationId::new(row.try_get("conversation_id")?),
            id: MessageId::new(row.try_get("message_id")?),
            position: column::position(row, "sequence")?,
            author: ParticipantId::new(row.try_get("author")?),
            origin,
            content,
            occurred_at: column::moment(row, "occurred_at")?,
            recorded_at: column::moment(row, "recorded_at")?,
            valid_until: column::moment(row, "valid_until")?,
        })
    }
}
