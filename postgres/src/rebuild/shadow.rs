//! The tables that a rebuild folds into: made, finished, and cleared away.

use std::time::Duration;

use chat4all_domain::Partition;
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::time::sleep;
use tokio::try_join;

use super::indexes::Index;
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
    indexes: Vec<Index>,
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
    /// Makes the tables fit for readers: indexes, statistics, privileges. Two tables at a time.
    ///
    /// # Errors
    /// Postgres is away, or refuses.
    pub async fn finish(
        &self,
        connection: &mut PgConnection,
        another: &mut PgConnection,
        schemas: &Schemas,
    ) -> Result<(), sqlx::Error> {
        let tables = tables(connection, &schemas.shadow).await?;
        let jobs = Mutex::new(tables.into_iter().map(|table| self.to_finish(table)));
        try_join!(work(connection, &jobs), work(another, &jobs))?;
        grants::take_over(connection, schemas).await
    }

    fn to_finish(&self, table: String) -> Vec<String> {
        let indexes = self.indexes.iter().filter(|index| index.table == table);
        let mut statements: Vec<_> = indexes.map(|index| index.definition.clone()).collect();
        // Statistics for the planner, and pages marked as visible, so that the first readers need not do it.
        statements.push(format!("vacuum (analyze) {table}"));
        statements
    }
}

/// Does what nobody has begun yet, one after the other.
async fn work(
    connection: &mut PgConnection,
    jobs: &Mutex<impl Iterator<Item = Vec<String>>>,
) -> Result<(), sqlx::Error> {
    loop {
        let Some(statements) = jobs.lock().await.next() else {
            return Ok(());
        };
        for statement in statements {
            tell(connection, statement).await?;
        }
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

/// The tables of `schema`, quoted and with their schema; the largest first.
async fn tables(
    connection: &mut PgConnection,
    schema: &Schema,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname)
         from pg_class as c
         join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname = $1
           and c.relkind = 'r'
         order by pg_relation_size(c.oid) desc, c.relname",
    )
    .bind(schema.as_str())
    .fetch_all(connection)
    .await
}
