//! Messages: written once, when they are accepted.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::column;
use crate::copy::Copy;

/// One message.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// The conversation it is in.
    pub conversation_id: Uuid,
    /// Its id within the conversation.
    pub message_id: Uuid,
    /// The partition that `sequence` counts in.
    pub partition: i16,
    /// Its place: messages of a conversation are ordered by it, and cursors are made of it.
    pub sequence: i64,
    /// The participant who wrote it.
    pub author: Uuid,
    /// `api` or `channel`.
    pub origin: String,
    /// The account that received it, when a channel did.
    pub account: Option<String>,
    /// `text` or `unsupported`.
    pub content_type: String,
    /// The text. Personal.
    pub content_text: Option<String>,
    /// For content that cannot be shown yet: the provider's word for it (`sticker`).
    pub placeholder: Option<String>,
    /// When it was written; for a channel's message by the provider's clock.
    pub occurred_at: OffsetDateTime,
    /// When it was accepted.
    pub recorded_at: OffsetDateTime,
    /// Deliveries that have not left by then expire.
    pub valid_until: OffsetDateTime,
}

/// Writes new messages. One that is there already breaks `messages_pk`.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into messages (
             conversation_id, message_id, partition, sequence, author, origin, account,
             content_type, content_text, placeholder, occurred_at, recorded_at, valid_until)
         select *
         from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::bigint[], $5::uuid[], $6::text[], $7::text[],
                     $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[])",
    )
    .bind(column(rows, |row| row.conversation_id))
    .bind(column(rows, |row| row.message_id))
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.sequence))
    .bind(column(rows, |row| row.author))
    .bind(column(rows, |row| row.origin.as_str()))
    .bind(column(rows, |row| row.account.as_deref()))
    .bind(column(rows, |row| row.content_type.as_str()))
    .bind(column(rows, |row| row.content_text.as_deref()))
    .bind(column(rows, |row| row.placeholder.as_deref()))
    .bind(column(rows, |row| row.occurred_at))
    .bind(column(rows, |row| row.recorded_at))
    .bind(column(rows, |row| row.valid_until))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Adds rows that are not there yet. One that is there is refused, and every other with it.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn copy(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut copy = Copy::of(13, rows.len());
    for row in rows {
        copy.row()
            .put(row.conversation_id)
            .put(row.message_id)
            .put(row.partition)
            .put(row.sequence)
            .put(row.author)
            .put(row.origin.as_str())
            .put(row.account.as_deref())
            .put(row.content_type.as_str())
            .put(row.content_text.as_deref())
            .put(row.placeholder.as_deref())
            .put(row.occurred_at)
            .put(row.recorded_at)
            .put(row.valid_until);
    }
    copy.into(
        connection,
        "copy messages (
             conversation_id, message_id, partition, sequence, author, origin, account, content_type,
             content_text, placeholder, occurred_at, recorded_at, valid_until)
         from stdin (format binary)",
    )
    .await
}
