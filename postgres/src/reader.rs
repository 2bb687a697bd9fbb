//! Marks: how far each participant has read.

use std::borrow::Borrow;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{borrowed, column};
use crate::copy::Copy;

/// One participant's mark in one conversation. A user's READ of a message shows from here.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Who reads.
    pub participant_id: Uuid,
    /// The last message seen.
    pub message_id: Uuid,
    /// That message's sequence.
    pub up_to_sequence: i64,
    /// When it was seen.
    pub read_at: OffsetDateTime,
}

/// The marks of those participants (conversation and participant, pairwise) that have one.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn load(
    connection: &mut PgConnection,
    participants: &[(Uuid, Uuid)],
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "select r.conversation_id, r.participant_id, r.message_id, r.up_to_sequence, r.read_at
         from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, participant_id)
         join readers as r using (conversation_id, participant_id)",
    )
    .bind(column(participants, |(conversation, _)| *conversation))
    .bind(column(participants, |(_, participant)| *participant))
    .fetch_all(connection)
    .await
}

/// Writes marks as they are now.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn write(
    connection: &mut PgConnection,
    rows: &[impl Borrow<Row> + Sync],
) -> Result<(), sqlx::Error> {
    let rows = &borrowed(rows);
    sqlx::query(
        "insert into readers (conversation_id, participant_id, message_id, up_to_sequence, read_at)
         select *
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::timestamptz[])
         on conflict on constraint readers_pk do update
         set message_id = excluded.message_id,
             up_to_sequence = excluded.up_to_sequence,
             read_at = excluded.read_at",
    )
    .bind(column(rows, |row| row.conversation_id))
    .bind(column(rows, |row| row.participant_id))
    .bind(column(rows, |row| row.message_id))
    .bind(column(rows, |row| row.up_to_sequence))
    .bind(column(rows, |row| row.read_at))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Adds rows that are not there yet. One that is there is refused, and every other with it.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn copy(connection: &mut PgConnection, rows: &[&Row]) -> Result<(), sqlx::Error> {
    let mut copy = Copy::of(5, rows.len());
    for row in rows {
        copy.row()
            .put(row.conversation_id)
            .put(row.participant_id)
            .put(row.message_id)
            .put(row.up_to_sequence)
            .put(row.read_at);
    }
    copy.into(
        connection,
        "copy readers (
             conversation_id, participant_id, message_id, up_to_sequence, read_at)
         from stdin (format binary)",
    )
    .await
}
