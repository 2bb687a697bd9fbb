//! How far participants have read. For a reader who has left, marks that have moved on behind that are left out.

use std::collections::BTreeMap;

use chat4all_domain::{ConversationId, MessageId, ParticipantId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::horizon::horizon;
use super::{Error, Reader, Reads, column};

/// One participant's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose mark it is.
    pub participant: ParticipantId,
    /// The last message seen.
    pub message: MessageId,
    /// Its sequence: everything up to it has been seen.
    pub up_to: u64,
    /// When the mark was put there.
    pub read_at: Timestamp,
}

/// The marks in each of these conversations that `reader` may know, furthest first.
///
/// # Errors
/// See [`Error`].
pub async fn of_conversations(
    reads: &Reads,
    reader: Reader,
    conversations: &[ConversationId],
) -> Result<BTreeMap<ConversationId, Vec<Mark>>, Error> {
    let wanted: Vec<Uuid> = conversations.iter().map(ConversationId::uuid).collect();
    let rows: Vec<Mark> = reads
        .all(
            sqlx::query_as(concat!(
                "select r.*
                 from unnest($1::uuid[]) as wanted (conversation_id)
                 cross join lateral (",
                horizon!("$2", "$3"),
                ") known
                 join readers r on r.conversation_id = wanted.conversation_id
                 where known.sequence > r.up_to_sequence
                 order by r.conversation_id, r.up_to_sequence desc, r.participant_id",
            ))
            .bind(wanted)
            .bind(reader.user.uuid())
            .bind(reader.sees_all),
        )
        .await?;
    let mut marks: BTreeMap<ConversationId, Vec<Mark>> = BTreeMap::new();
    for mark in rows {
        marks.entry(mark.conversation).or_default().push(mark);
    }
    Ok(marks)
}

impl FromRow<'_, PgRow> for Mark {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            conversation: ConversationId::new(row.try_get("conversation_id")?),
            participant: ParticipantId::new(row.try_get("participant_id")?),
            message: MessageId::new(row.try_get("message_id")?),
            up_to: column::count(row, "up_to_sequence")?,
            read_at: column::moment(row, "read_at")?,
        })
    }
}
