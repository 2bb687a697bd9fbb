//! Brings a schema to the form this release knows.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::Config;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();
/// What stands guard over making schemas; any number, the same in every process.
const MAKING_SCHEMAS: i64 = 0x6368_6174_3461_6c6c;

/// Why a schema could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres is away, or refuses.
    #[error("failed to make schema {schema}")]
    Schema {
        /// Its name.
        schema: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// A migration failed, or the schema was made by a newer release or by other migrations.
    #[error("failed to migrate schema {schema}")]
    Migrate {
        /// Its name.
        schema: String,
        /// Why not.
        #[source]
        source: MigrateError,
    },
}

/// Makes the schema if need be and runs every migration that it has not seen. Processes that start together take turns.
///
/// # Errors
/// See [`Error`].
pub async fn migrate(config: &Config) -> Result<(), Error> {
    let schema = config.schema();
    let named = || schema.to_string();
    let failed = |source| Error::Schema {
        schema: named(),
        source,
    };
    let mut connection = config.connect().await.map_err(failed)?;
    let mut tx = connection.begin().await.map_err(failed)?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(MAKING_SCHEMAS)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    // Looked for first: `create … if not exists` wants the right to create even when there is nothing to do.
    let found = sqlx::query("select exists (select from pg_namespace where nspname = $1)")
        .bind(schema.as_str())
        .fetch_one(&mut *tx)
        .await
        .and_then(|row| row.try_get::<bool, _>(0))
        .map_err(failed)?;
    if !found {
        let create = format!("create schema {schema}");
        sqlx::query(AssertSqlSafe(create))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    tx.commit().await.map_err(failed)?;
    // A migration may have to wait for a colleague's, and to rewrite a table.
    sqlx::query("select set_config(name, '0', false) from unnest(array['statement_timeout', 'lock_timeout']) as name")
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    // `run` takes anything that can become a connection, which the compiler then cannot prove to be `Send`.
    MIGRATIONS
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|source| Error::Migrate {
            schema: named(),
            source,
        })
}
