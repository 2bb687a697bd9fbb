//! The tables that a rebuild folds into: made, finished, and cleared away.

use std::time::Duration;

use chat4all_domain::Partition;
use sqlx::PgConnection;
use tokio::time::sleep;

use super::{Schemas, grants, indexes, tell};
use crate::{Config, Schema, checkpoint, migrate};

/// How often a schema is tried to be dropped while somebody still reads in it.
const DROP_TRIES: u32 = 12;
/// The pause in between. Each try waits for as long as the connection's `lock_timeout`.
const DROP_PAUSE: Duration = Duration::from_millis(250);

/// Why there is no shadow.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its tables could not be made.
    #[error("failed to make the tables to fold into")]
    Migrate(#[source] migrate::Error),
    /// Postgres is away, or refuses.
    #[error("failed to prepare the tables to fold into")]
    Postgres(#[source] sqlx::Error),
}

/// Tables without rows, and what has to be done once they have them.
#[derive(Debug)]
pub struct Shadow {
    indexes: Vec<String>,
}

/// Clears away what a rebuild that was killed has left, and makes the shadow: every table, checkpoints at 0, and no index
/// that only reads need. `connection` must have the turn.
///
/// # Errors
/// See [`Error`].
pub async fn make(
    connection: &mut PgConnection,
    config: &Config,
    partitions: &[Partition],
) -> Result<Shadow, Error> {
    let schemas = Schemas::of(config.schema());
    clear(connection, &schemas).await.map_err(Error::Postgres)?;
    let into = config.with_schema(schemas.shadow.clone());
    migrate::migrate(&into).await.map_err(Error::Migrate)?;
    let mut inside = into.connect().await.map_err(Error::Postgres)?;
    checkpoint::ensure(&mut inside, partitions)
        .await
        .map_err(Error::Postgres)?;
    let indexes = indexes::set_aside(connection, &schemas.shadow)
        .await
        .map_err(Error::Postgres)?;
    Ok(Shadow { indexes })
}

impl Shadow {
    /// Makes the tables fit for readers: indexes, statistics, privileges.
    ///
    /// # Errors
    /// Postgres is away, or refuses.
    pub async fn finish(
        &self,
        connection: &mut PgConnection,
        schemas: &Schemas,
    ) -> Result<(), sqlx::Error> {
        for definition in &self.indexes {
            tell(connection, definition.clone()).await?;
        }
        for table in tables(connection, &schemas.shadow).await? {
            // Statistics for the planner, and pages marked as visible, so that the first readers need not do it.
            tell(connection, format!("vacuum (analyze) {table}")).await?;
        }
        grants::take_over(connection, schemas).await
    }
}

/// Drops the shadow and what was replaced, if there is either.
///
/// # Errors
/// Postgres is away, refuses, or somebody holds on to a table.
pub async fn clear(connection: &mut PgConnection, schemas: &Schemas) -> Result<(), sqlx::Error> {
    for schema in [&schemas.shadow, &schemas.replaced] {
        drop_schema(connection, schema).await?;
    }
    Ok(())
}

async fn drop_schema(connection: &mut PgConnection, schema: &Schema) -> Result<(), sqlx::Error> {
    let mut tries = 1;
    loop {
        let dropped = tell(
            connection,
            format!("drop schema if exists {schema} cascade"),
        )
        .await;
        match dropped {
            // Who began to read before the swap may finish.
            Err(error) if is_lock_timeout(&error) && tries < DROP_TRIES => tries += 1,
            ended => return ended,
        }
        sleep(DROP_PAUSE).await;
    }
}

pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    // lock_not_available, and the server's choice of a victim.
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "55P03" | "40P01"))
}

/// The tables of `schema`, quoted and with their schema.
async fn tables(
    connection: &mut PgConnection,
    schema: &Schema,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename)
         from pg_tables
         where schemaname = $1
         order by tablename",
    )
    .bind(schema.as_str())
    .fetch_all(connection)
    .await
}
