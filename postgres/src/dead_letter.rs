//! Events that could not be folded, kept with their raw bytes.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

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
}

/// Parks events. U+0000, which no text column takes, becomes U+FFFD: nothing may keep a bad event from being parked.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into projector_dead_letter (partition, sequence, subject, error, payload, recorded_at)
         select *
         from unnest($1::smallint[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[])",
    )
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.sequence))
    .bind(column(rows, |row| row.subject.replace('\0', "\u{fffd}")))
    .bind(column(rows, |row| row.error.replace('\0', "\u{fffd}")))
    .bind(column(rows, |row| row.payload.as_slice()))
    .bind(column(rows, |row| row.recorded_at))
    .execute(connection)
    .await
    .map(|_| ())
}
