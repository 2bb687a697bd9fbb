//! Identities: who is somebody outside.

use std::borrow::Borrow;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{borrowed, column};
use crate::copy::Copy;

/// Somebody outside.
#[derive(Clone, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// Their id.
    pub identity_id: Uuid,
    /// The partition of their events.
    pub partition: i16,
    /// The channel's kind, `whatsapp`.
    pub kind: String,
    /// Their address there. Personal.
    pub address: String,
    /// What they call themselves. Personal.
    pub name: Option<String>,
    /// First contact.
    pub first_seen_at: OffsetDateTime,
    /// The event that made it.
    pub first_sequence: i64,
}

/// The rows of those of `identities` that have one.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn load(
    connection: &mut PgConnection,
    identities: &[Uuid],
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as(
        "select identity_id, partition, kind, address, name, first_seen_at, first_sequence
         from identities
         where identity_id = any($1)",
    )
    .bind(identities)
    .fetch_all(connection)
    .await
}

/// Writes identities as they are now.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn write(
    connection: &mut PgConnection,
    rows: &[impl Borrow<Row> + Sync],
) -> Result<(), sqlx::Error> {
    let rows = &borrowed(rows);
    sqlx::query(
        "insert into identities (identity_id, partition, kind, address, name, first_seen_at, first_sequence)
         select *
         from unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bigint[])
         on conflict on constraint identities_pk do update
         set name = excluded.name",
    )
    .bind(column(rows, |row| row.identity_id))
    .bind(column(rows, |row| row.partition))
    .bind(column(rows, |row| row.kind.as_str()))
    .bind(column(rows, |row| row.address.as_str()))
    .bind(column(rows, |row| row.name.as_deref()))
    .bind(column(rows, |row| row.first_seen_at))
    .bind(column(rows, |row| row.first_sequence))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Adds rows that are not there yet. One that is there is refused, and every other with it.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn copy(connection: &mut PgConnection, rows: &[&Row]) -> Result<(), sqlx::Error> {
    let mut copy = Copy::of(7, rows.len());
    for row in rows {
        copy.row()
            .put(row.identity_id)
            .put(row.partition)
            .put(row.kind.as_str())
            .put(row.address.as_str())
            .put(row.name.as_deref())
            .put(row.first_seen_at)
            .put(row.first_sequence);
    }
    copy.into(
        connection,
        "copy identities (
             identity_id, partition, kind, address, name, first_seen_at, first_sequence)
         from stdin (format binary)",
    )
    .await
}
