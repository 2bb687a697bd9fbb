//! One statement on one connection, within a time that is ours.
//!
//! The server's own `statement_timeout` does not help when the server hangs, so each statement has a deadline on this
//! side too. A connection whose statement did not come to its end (deadline, or the client hung up) is closed: its
//! answer may still arrive, and waiting for it would hold a place in the pool as long as the server hangs.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgPool, Postgres};

use super::refused::Refused;

/// Where reads happen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    pool: PgPool,
    refused: Arc<Refused>,
    deadline: Duration,
}

/// A read gave no rows, and not because there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Postgres is away, starting, stopping, overloaded, or has no tables yet. Trying again later makes sense.
    #[error("the read models are away")]
    Away(#[source] sqlx::Error),
    /// Postgres took the statement and was silent until the deadline.
    #[error("the read models gave no answer within {deadline_ms} ms")]
    Silent {
        /// How long we waited.
        deadline_ms: u128,
    },
    /// The statement, a row or the schema is not what this version expects. Somebody must look.
    #[error("the read models cannot be read")]
    Broken(#[source] sqlx::Error),
}

impl Reads {
    /// Reads over `pool`, each statement within `deadline` (from the moment it has a connection). A server that refuses
    /// connections is [`Error::Away`] within a fraction of a second, one that does not answer after the pool's patience.
    pub fn new(pool: PgPool, deadline: Duration) -> Self {
        let refused = Arc::default();
        Self {
            pool,
            refused,
            deadline,
        }
    }

    /// Whether reads are possible now: one round trip.
    ///
    /// # Errors
    /// As any read.
    pub async fn answers(&self) -> Result<(), Error> {
        self.all(sqlx::query_as::<_, (i32,)>("select 1"))
            .await
            .map(drop)
    }

    /// Every row that `query` gives.
    pub(super) async fn all<T>(
        &self,
        query: QueryAs<'_, Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut lease = Lease::take(&self.pool, &self.refused).await?;
        let rows = query.fetch_all(&mut *lease.connection);
        let Ok(rows) = tokio::time::timeout(self.deadline, rows).await else {
            return Err(Error::Silent {
                deadline_ms: self.deadline.as_millis(),
            });
        };
        lease.settled = true;
        Ok(rows?)
    }
}

/// A connection that goes back to the pool only after its statement came to an end.
pub(crate) struct Lease {
    pub(crate) connection: PoolConnection<Postgres>,
    /// Whether the statement came to its end; `false` until somebody says so.
    pub(crate) settled: bool,
}

impl Lease {
    pub(crate) async fn take(pool: &PgPool, refused: &Refused) -> Result<Self, sqlx::Error> {
        let connection = tokio::select! {
            biased;
            connection = pool.acquire() => connection?,
            refused = refused.seen(pool) => return Err(refused),
        };
        Ok(Self {
            connection,
            settled: false,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            // A server that goes down in the middle of a handshake has not said anything that makes sense.
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| passes(&code)),
            _ => false,
        };
        if away {
            Self::Away(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// Whether a refusal with this SQLSTATE can pass by itself.
///
/// Source: PostgreSQL manual, appendix A. Classes 08 connection, 53 insufficient resources, 57 operator intervention
/// (57014 is the statement timeout); 40001 and 40P01 are lost races; 42P01 and 3F000 are tables or a schema that nobody
/// has made yet; 0A000 is a prepared statement's "cached plan must not change result type" after a schema was swapped.
fn passes(code: &str) -> bool {
    matches!(&code[..2.min(code.len())], "08" | "53" | "57")
        || matches!(code, "40001" | "40P01" | "42P01" | "3F000" | "0A000")
}
