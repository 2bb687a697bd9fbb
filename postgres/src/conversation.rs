//! Conversations: what they are, and what happened last.

use std::borrow::Borrow;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{borrowed, column};
use crate::copy::Copy;

/// One conversation.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// Its id.
    pub conversation_id: Uuid,
    /// The partition that everything in it is in.
    pub partition: i16,
    /// `direct` or `group`.
    pub kind: String,
    /// What it is called. Personal.
    pub title: Option<String>,
    /// The user who started it; `None` when somebody outside wrote first.
    pub started_by: Option<Uuid>,
    /// When it was started.
    pub started_at: OffsetDateTime,
    /// The event that started it.
    pub started_sequence: i64,
    /// When the latest of started, joined, left and message accepted was recorded.
    pub last_activity_at: OffsetDateTime,
    /// The event that was the last activity.
    pub last_sequence: i64,
    /// The last message.
    pub last_message_id: Option<Uuid>,
    /// How many messages it has.
    pub message_count: i64,
}

/// The rows of those of `conversations` that have one.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn load(
    connection: &mut PgConnection,
    conversations: &[Uuid],
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "select conversation_id, partition, kind, title, started_by, started_at, started_sequence,
                last_activity_at, last_sequence, last_message_id, message_count
         from conversations
         where conversation_id = any($1)",
    )
    .bind(conversations)
    .fetch_all(connection)
    .await
}

/// Writes rows as they are now.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn write(
    connection: &mut PgConnection,
    rows: &[impl Borrow<Row> + Sync],
) -> Result<(), sqlx::Error> {
    let rows = &borrowed(rows);
    sqlx::query(
        "insert into conversations (
             conversation_id, partition, kind, title, started_by, started_at, started_sequence,
             last_activity_at, last_sequence, last_message_id, message_count)
         select *
         from unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[],
                     $7::bigint[], $8::timestamptz[], $9::bigint[], $10::uuid[], $11::bigint[])
         on conflict on constraint conversations_pk do update
         set last_activity_at = excluded.last_activity_at,
             last_sequence = excluded.last_sequence,
             last_message_id = excluded.last_message_id,
             message_count = excluded.message_count",
    )
    .bind(column(rows, |row| row.conversation_id))
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.kind.as_str()))
    .bind(column(rows, |row| row.title.as_deref()))
    .bind(column(rows, |row| row.started_by))
    .bind(column(rows, |row| row.started_at))
    .bind(column(rows, |row| row.started_sequence))
    .bind(column(rows, |row| row.last_activity_at))
    .bind(column(rows, |row| row.last_sequence))
    .bind(column(rows, |row| row.last_message_id))
    .bind(column(rows, |row| row.message_count))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Adds rows that are not there yet. One that is there is refused, and every other with it.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn copy(connection: &mut PgConnection, rows: &[&Row]) -> Result<(), sqlx::Error> {
    let mut copy = Copy::of(11, rows.len());
    for row in rows {
        copy.row()
            .put(row.conversation_id)
            .put(row.partition)
            .put(row.kind.as_str())
            .put(row.title.as_deref())
            .put(row.started_by)
            .put(row.started_at)
            .put(row.started_sequence)
            .put(row.last_activity_at)
            .put(row.last_sequence)
            .put(row.last_message_id)
            .put(row.message_count);
    }
    copy.into(
        connection,
        "copy conversations (
             conversation_id, partition, kind, title, started_by, started_at, started_sequence,
             last_activity_at, last_sequence, last_message_id, message_count)
         from stdin (format binary)",
    )
    .await
}
