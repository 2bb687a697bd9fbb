//! One rebuild at a time: a lock that lives as long as its connection does.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use crate::Schema;

/// What tells our locks from those of others in the same database; any number, the same in every process.
const REBUILDING: i32 = 0x7265_6275;

/// Who is at it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Holder {
    /// The process of the server that serves them.
    pub backend_pid: i32,
    /// How they call themselves.
    pub name: String,
    /// Where they connected from; empty for a local socket.
    pub address: String,
    /// Since when they are connected.
    pub since: OffsetDateTime,
}

/// Takes the turn to rebuild `live`. `false` when somebody else has it. It ends with the connection, however that ends.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn take(connection: &mut PgConnection, live: &Schema) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_lock($1, hashtext($2))")
        .bind(REBUILDING)
        .bind(live.as_str())
        .fetch_one(connection)
        .await
}

/// Who has the turn, unless they have just finished.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn holder(
    connection: &mut PgConnection,
    live: &Schema,
) -> Result<Option<Holder>, sqlx::Error> {
    sqlx::query_as(
        "select a.pid as backend_pid, a.application_name as name, coalesce(host(a.client_addr), '') as address,
                a.backend_start as since
         from pg_locks as l
         join pg_stat_activity as a using (pid)
         where l.locktype = 'advisory'
           and l.granted
           and l.database = (select oid from pg_database where datname = current_database())
           and l.classid = $1::oid
           and l.objid = hashtext($2)::oid
           and l.objsubid = 2",
    )
    .bind(REBUILDING)
    .bind(live.as_str())
    .fetch_optional(connection)
    .await
}

/// The live schema's own number; another one after each swap. `None` when there is no such schema.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn identity(
    connection: &mut PgConnection,
    live: &Schema,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("select oid::bigint from pg_namespace where nspname = $1")
        .bind(live.as_str())
        .fetch_optional(connection)
        .await
}
