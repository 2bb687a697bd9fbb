//! Participants: one row per stay.

use std::borrow::Borrow;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{borrowed, column};
use crate::copy::Copy;

/// One stay of somebody in a conversation. They see the messages whose sequence lies between join and leave.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Their id in it; the same in every stay.
    pub participant_id: Uuid,
    /// The event with which the stay began.
    pub joined_sequence: i64,
    /// The event with which it ended; `None` while they are in it.
    pub left_sequence: Option<i64>,
    /// When it began.
    pub joined_at: OffsetDateTime,
    /// When it ended.
    pub left_at: Option<OffsetDateTime>,
    /// A user's id; `None` for somebody outside.
    pub user_id: Option<Uuid>,
    /// The identity of somebody outside.
    pub identity_id: Option<Uuid>,
    /// `whatsapp`, for somebody outside.
    pub channel_kind: Option<String>,
    /// The account somebody outside is reached through.
    pub account: Option<String>,
    /// Their address there. Personal.
    pub address: Option<String>,
}

/// The stays that have not ended, of those participants (conversation and participant, pairwise).
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn load_present(
    connection: &mut PgConnection,
    participants: &[(Uuid, Uuid)],
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "select p.conversation_id, p.participant_id, p.joined_sequence, p.left_sequence, p.joined_at, p.left_at,
                p.user_id, p.identity_id, p.channel_kind, p.account, p.address
         from unnest($1::uuid[], $2::uuid[]) as wanted (conversation_id, participant_id)
         join participants as p using (conversation_id, participant_id)
         where p.left_sequence is null",
    )
    .bind(column(participants, |(conversation, _)| *conversation))
    .bind(column(participants, |(_, participant)| *participant))
    .fetch_all(connection)
    .await
}

/// Writes stays as they are now.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn write(
    connection: &mut PgConnection,
    rows: &[impl Borrow<Row> + Sync],
) -> Result<(), sqlx::Error> {
    let rows = &borrowed(rows);
    sqlx::query(
        "insert into participants (
             conversation_id, participant_id, joined_sequence, left_sequence, joined_at, left_at,
             user_id, identity_id, channel_kind, account, address)
         select *
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
                     $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::text[])
         on conflict on constraint participants_pk do update
         set left_sequence = excluded.left_sequence,
             left_at = excluded.left_at",
    )
    .bind(column(rows, |row| row.conversation_id))
    .bind(column(rows, |row| row.participant_id))
    .bind(column(rows, |row| row.joined_sequence))
    .bind(column(rows, |row| row.left_sequence))
    .bind(column(rows, |row| row.joined_at))
    .bind(column(rows, |row| row.left_at))
    .bind(column(rows, |row| row.user_id))
    .bind(column(rows, |row| row.identity_id))
    .bind(column(rows, |row| row.channel_kind.as_deref()))
    .bind(column(rows, |row| row.account.as_deref()))
    .bind(column(rows, |row| row.address.as_deref()))
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
            .put(row.participant_id)
            .put(row.joined_sequence)
            .put(row.left_sequence)
            .put(row.joined_at)
            .put(row.left_at)
            .put(row.user_id)
            .put(row.identity_id)
            .put(row.channel_kind.as_deref())
            .put(row.account.as_deref())
            .put(row.address.as_deref());
    }
    copy.into(
        connection,
        "copy participants (
             conversation_id, participant_id, joined_sequence, left_sequence, joined_at, left_at, user_id,
             identity_id, channel_kind, account, address)
         from stdin (format binary)",
    )
    .await
}
