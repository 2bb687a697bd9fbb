//! Deliveries: where each outside recipient's copy of a message stands.

use std::borrow::Borrow;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{borrowed, column};
use crate::copy::Copy;

/// One delivery. The steps are those of its current generation.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// The conversation of the message.
    pub conversation_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// Number of the delivery within the message, from 0.
    pub n: i32,
    /// The partition that `last_sequence` counts in.
    pub partition: i16,
    /// The channel's kind, `whatsapp`.
    pub kind: String,
    /// The account it goes out through.
    pub account: String,
    /// Who is to get it.
    pub participant_id: Uuid,
    /// Their address. Personal.
    pub address: Option<String>,
    /// `PENDING`, `SENT`, `DELIVERED`, `READ`, `FAILED`.
    pub status: String,
    /// How often it was redriven.
    pub generation: i64,
    /// The first attempt that belongs to this generation.
    pub first_attempt: i64,
    /// The last attempt made; 0 when none was.
    pub attempts: i64,
    /// When the last attempt was made.
    pub attempted_at: Option<OffsetDateTime>,
    /// When the provider took it.
    pub sent_at: Option<OffsetDateTime>,
    /// When it arrived.
    pub delivered_at: Option<OffsetDateTime>,
    /// When it was seen.
    pub read_at: Option<OffsetDateTime>,
    /// When it failed, if it has.
    pub failed_at: Option<OffsetDateTime>,
    /// What kind of failure: `PERMANENT`.
    pub failure_class: Option<String>,
    /// Why it failed: `RECIPIENT_NOT_REACHABLE`.
    pub failure_reason: Option<String>,
    /// The provider's code for it.
    pub provider_code: Option<String>,
    /// The next attempt is not before this moment.
    pub deferred_until: Option<OffsetDateTime>,
    /// What kind of failure it waits after.
    pub deferred_class: Option<String>,
    /// Why it waits.
    pub deferred_reason: Option<String>,
    /// The last event about it.
    pub last_sequence: i64,
}

/// Every delivery of those messages (conversation and message, pairwise).
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn load(
    connection: &mut PgConnection,
    messages: &[(Uuid, Uuid)],
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "select d.conversation_id, d.message_id, d.n, d.partition, d.kind, d.account, d.participant_id, d.address,
                d.status, d.generation, d.first_attempt, d.attempts, d.attempted_at, d.sent_at, d.delivered_at,
                d.read_at, d.failed_at, d.failure_class, d.failure_reason, d.provider_code, d.deferred_until,
                d.deferred_class, d.deferred_reason, d.last_sequence
         from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, message_id)
         join deliveries as d using (conversation_id, message_id)",
    )
    .bind(column(messages, |(conversation, _)| *conversation))
    .bind(column(messages, |(_, message)| *message))
    .fetch_all(connection)
    .await
}

/// Writes deliveries as they are now.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn write(
    connection: &mut PgConnection,
    rows: &[impl Borrow<Row> + Sync],
) -> Result<(), sqlx::Error> {
    let rows = &borrowed(rows);
    sqlx::query(
        "insert into deliveries (
             conversation_id, message_id, n, partition, kind, account, participant_id, address,
             status, generation, first_attempt, attempts, attempted_at, sent_at, delivered_at,
             read_at, failed_at, failure_class, failure_reason, provider_code, deferred_until,
             deferred_class, deferred_reason, last_sequence)
         select *
         from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::smallint[], $5::text[], $6::text[], $7::uuid[],
                     $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::timestamptz[],
                     $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::text[],
                     $19::text[], $20::text[], $21::timestamptz[], $22::text[], $23::text[], $24::bigint[])
         on conflict on constraint deliveries_pk do update
         set status = excluded.status,
             generation = excluded.generation,
             first_attempt = excluded.first_attempt,
             attempts = excluded.attempts,
             attempted_at = excluded.attempted_at,
             sent_at = excluded.sent_at,
             delivered_at = excluded.delivered_at,
             read_at = excluded.read_at,
             failed_at = excluded.failed_at,
             failure_class = excluded.failure_class,
             failure_reason = excluded.failure_reason,
             provider_code = excluded.provider_code,
             deferred_until = excluded.deferred_until,
             deferred_class = excluded.deferred_class,
             deferred_reason = excluded.deferred_reason,
             last_sequence = excluded.last_sequence",
    )
    .bind(column(rows, |row| row.conversation_id))
    .bind(column(rows, |row| row.message_id))
    .bind(column(rows, |row| row.n))
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.kind.as_str()))
    .bind(column(rows, |row| row.account.as_str()))
    .bind(column(rows, |row| row.participant_id))
    .bind(column(rows, |row| row.address.as_deref()))
    .bind(column(rows, |row| row.status.as_str()))
    .bind(column(rows, |row| row.generation))
    .bind(column(rows, |row| row.first_attempt))
    .bind(column(rows, |row| row.attempts))
    .bind(column(rows, |row| row.attempted_at))
    .bind(column(rows, |row| row.sent_at))
    .bind(column(rows, |row| row.delivered_at))
    .bind(column(rows, |row| row.read_at))
    .bind(column(rows, |row| row.failed_at))
    .bind(column(rows, |row| row.failure_class.as_deref()))
    .bind(column(rows, |row| row.failure_reason.as_deref()))
    .bind(column(rows, |row| row.provider_code.as_deref()))
    .bind(column(rows, |row| row.deferred_until))
    .bind(column(rows, |row| row.deferred_class.as_deref()))
    .bind(column(rows, |row| row.deferred_reason.as_deref()))
    .bind(column(rows, |row| row.last_sequence))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Adds rows that are not there yet. One that is there is refused, and every other with it.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn copy(connection: &mut PgConnection, rows: &[&Row]) -> Result<(), sqlx::Error> {
    let mut copy = Copy::of(24, rows.len());
    for row in rows {
        copy.row()
            .put(row.conversation_id)
            .put(row.message_id)
            .put(row.n)
            .put(row.partition)
            .put(row.kind.as_str())
            .put(row.account.as_str())
            .put(row.participant_id)
            .put(row.address.as_deref())
            .put(row.status.as_str())
            .put(row.generation)
            .put(row.first_attempt)
            .put(row.attempts)
            .put(row.attempted_at)
            .put(row.sent_at)
            .put(row.delivered_at)
            .put(row.read_at)
            .put(row.failed_at)
            .put(row.failure_class.as_deref())
            .put(row.failure_reason.as_deref())
            .put(row.provider_code.as_deref())
            .put(row.deferred_until)
            .put(row.deferred_class.as_deref())
            .put(row.deferred_reason.as_deref())
            .put(row.last_sequence);
    }
    copy.into(
        connection,
        "copy deliveries (
             conversation_id, message_id, n, partition, kind, account, participant_id, address, status,
             generation, first_attempt, attempts, attempted_at, sent_at, delivered_at, read_at, failed_at,
             failure_class, failure_reason, provider_code, deferred_until, deferred_class, deferred_reason,
             last_sequence)
         from stdin (format binary)",
    )
    .await
}
