//! Events that could not be folded, kept with their raw bytes.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::column;

/// One event that could not be folded.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// Its partition.
    pub partition: i16,
    /// Its sequence there.
    pub sequence: i64,
    /// Its subject.
    pub subject: String,
    /// What is wrong with it; nothing personal.
    pub error: String,
    /// As it stands on the log. Personal.
    pub payload: Vec<u8>,
    /// When the log stored it.
    pub recorded_at: OffsetDateTime,
    /// What it calls itself, by its message's header: `MessageAccepted`, several with commas.
    pub event_types: Option<String>,
    /// The conversation that its subject names.
    pub conversation_id: Option<Uuid>,
}

/// Parks events. U+0000, which no text column takes, becomes U+FFFD: nothing may keep a bad event from being parked.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    // A header holds any text that has no line break.
    let plain = |text: &str| text.replace('\0', "\u{fffd}");
    sqlx::query(
        "insert into projector_dead_letter (
             partition, sequence, subject, error, payload, recorded_at, event_types, conversation_id)
         select *
         from unnest($1::smallint[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], $7::text[],
                     $8::uuid[])",
    )
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.sequence))
    .bind(column(rows, |row| plain(&row.subject)))
    .bind(column(rows, |row| plain(&row.error)))
    .bind(column(rows, |row| row.payload.as_slice()))
    .bind(column(rows, |row| row.recorded_at))
    .bind(column(rows, |row| row.event_types.as_deref().map(plain)))
    .bind(column(rows, |row| row.conversation_id))
    .execute(connection)
    .await
    .map(|_| ())
}
