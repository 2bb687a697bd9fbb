//! The history of deliveries: one row per event.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::column;
use crate::copy::Copy;

/// One step of a delivery.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// The conversation of the message.
    pub conversation_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// Number of the delivery within the message.
    pub n: i32,
    /// Where the event stands in the partition of its conversation.
    pub sequence: i64,
    /// Which of its envelope's events it is, from 0.
    pub event_index: i32,
    /// `DeliveryAttempted`, …
    #[sqlx(rename = "type")]
    pub event_type: String,
    /// The attempt it is about; `None` for a redrive.
    pub attempt: Option<i64>,
    /// When, by the clock of whoever noticed.
    pub occurred_at: OffsetDateTime,
    /// When, by ours.
    pub recorded_at: OffsetDateTime,
    /// What else it says, nothing personal: `generation` and `by` of a redrive, `class`, `reason`, `provider_code` of a
    /// failure, `until` of a wait, `owner` of an attempt.
    pub details: serde_json::Value,
}

/// Writes new history.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn insert(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into delivery_events (
             conversation_id, message_id, n, sequence, event_index, type, attempt, occurred_at, recorded_at, details)
         select *
         from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bigint[], $5::integer[], $6::text[], $7::bigint[],
                     $8::timestamptz[], $9::timestamptz[], $10::jsonb[])",
    )
    .bind(column(rows, |row| row.conversation_id))
    .bind(column(rows, |row| row.message_id))
    .bind(column(rows, |row| row.n))
    .bind(column(rows, |row| row.sequence))
    .bind(column(rows, |row| row.event_index))
    .bind(column(rows, |row| row.event_type.as_str()))
    .bind(column(rows, |row| row.attempt))
    .bind(column(rows, |row| row.occurred_at))
    .bind(column(rows, |row| row.recorded_at))
    .bind(column(rows, |row| &row.details))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Adds rows that are not there yet. One that is there is refused, and every other with it.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn copy(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut copy = Copy::of(10, rows.len());
    for row in rows {
        copy.row()
            .put(row.conversation_id)
            .put(row.message_id)
            .put(row.n)
            .put(row.sequence)
            .put(row.event_index)
            .put(row.event_type.as_str())
            .put(row.attempt)
            .put(row.occurred_at)
            .put(row.recorded_at)
            .put(&row.details);
    }
    copy.into(
        connection,
        "copy delivery_events (
             conversation_id, message_id, n, sequence, event_index, type, attempt, occurred_at,
             recorded_at, details)
         from stdin (format binary)",
    )
    .await
}
