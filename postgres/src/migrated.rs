//! Whether a schema has the form that this release knows, without changing it.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::migrate::MIGRATIONS;

/// What keeps a schema from being the one that this release knows, by number of migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// This release has them, the schema has not seen them.
    pub missing: Vec<i64>,
    /// The schema has seen them, and this release does not know them: a newer one has been here.
    pub unknown: Vec<i64>,
    /// Begun and not finished, or not the same as this release's.
    pub broken: Vec<i64>,
}

/// Compares the schema with this release's migrations.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn look(connection: &mut PgConnection) -> Result<Migrated, sqlx::Error> {
    let kept: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?;
    let seen: Vec<(i64, bool, Vec<u8>)> = if kept {
        sqlx::query_as("select version, success, checksum from _sqlx_migrations")
            .fetch_all(connection)
            .await?
    } else {
        Vec::new()
    };
    let mut seen: BTreeMap<i64, (bool, Vec<u8>)> = seen
        .into_iter()
        .map(|(version, success, checksum)| (version, (success, checksum)))
        .collect();
    let mut found = Migrated::default();
    for ours in MIGRATIONS.iter() {
        match seen.remove(&ours.version) {
            None => found.missing.push(ours.version),
            Some((true, checksum)) if checksum == *ours.checksum => {}
            Some(_) => found.broken.push(ours.version),
        }
    }
    found.unknown.extend(seen.into_keys());
    Ok(found)
}
