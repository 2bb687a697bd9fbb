//! The swap: projectors wait for a moment, two schemas change their names, projectors go on.
//!
//! The lock is one of the whole checkpoint *table*, not of its rows. A projector moves the checkpoints first in each
//! transaction, so it waits before it has written anything; and because it waits for the table, the server looks the
//! name up again when it is its turn, and finds the new table. Had it waited for a row, it would have gone on in the old
//! table, and written the rest of its transaction into the new ones.
//!
//! Readers wait for nothing: reading does not conflict with this lock, and renaming a schema locks no table in it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use chat4all_domain::Partition;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout};

use super::compare::{self, Comparison, Moment, Which};
use super::shadow::is_lock_timeout;
use super::{Schemas, tell};
use crate::Schema;
use crate::checkpoint::{self, Checkpoint};

/// How long the swap waits for the transactions that projectors are in; new ones wait behind it meanwhile. Shorter than
/// [`LOCK_TIMEOUT`](crate::connect::LOCK_TIMEOUT), so that they do not give up.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How long projectors are held, at most, whatever is done meanwhile. Together with [`LOCK_PATIENCE`] shorter than
/// [`LOCK_TIMEOUT`](crate::connect::LOCK_TIMEOUT), so that they do not give up. What it does not limit: the commit of the
/// swap, see [`COMMIT_PATIENCE`].
pub const HELD_PATIENCE: Duration = Duration::from_millis(2_500);

/// How long the answer to the commit of the swap is waited for. It waits for the disk, and for a standby if there is one, and
/// no limit of the server's ends that: on the server it may go on afterwards.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// What is kept of it for the swap itself.
const TO_SWAP: Duration = Duration::from_millis(500);

/// The live checkpoints, which nobody moves until this ends. Dropping it ends the turn, too.
#[derive(Debug)]
pub struct Locked {
    connection: PgConnection,
    /// Where the live tables stand.
    pub at: BTreeMap<Partition, Checkpoint>,
    /// Since when.
    pub since: Instant,
}

/// What became of the wish to lock.
#[derive(Debug)]
pub enum Lock {
    /// Projectors wait.
    Held(Locked),
    /// They could not be stopped within [`LOCK_PATIENCE`]: one of them takes long.
    Busy(PgConnection),
}

/// Keeps projectors from moving on. `connection` has the turn, and is given back with the lock.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn lock(mut connection: PgConnection, schemas: &Schemas) -> Result<Lock, sqlx::Error> {
    let lock_ms = LOCK_PATIENCE.as_millis();
    tell(
        &mut connection,
        format!("begin; set local lock_timeout = {lock_ms}"),
    )
    .await?;
    let live = &schemas.live;
    let lock = format!("lock table {live}.projector_checkpoint in exclusive mode");
    match tell(&mut connection, lock).await {
        Ok(()) => {}
        Err(error) if is_lock_timeout(&error) => {
            tell(&mut connection, "rollback").await?;
            return Ok(Lock::Busy(connection));
        }
        Err(error) => return Err(error),
    }
    let since = Instant::now();
    limit(&mut connection, HELD_PATIENCE).await?;
    let at = checkpoint::read(&mut connection).await?;
    Ok(Lock::Held(Locked {
        connection,
        at,
        since,
    }))
}

/// No statement of this transaction takes longer than `left`, from here on.
async fn limit(connection: &mut PgConnection, left: Duration) -> Result<(), sqlx::Error> {
    // 0 would be no limit.
    let left_ms = left.as_millis().max(1);
    tell(
        connection,
        format!("set local statement_timeout = {left_ms}"),
    )
    .await
}

impl Locked {
    /// When whatever is done meanwhile has to be over, so that there is time for the swap.
    pub fn until(&self) -> Instant {
        self.since + HELD_PATIENCE.saturating_sub(TO_SWAP)
    }

    /// Compares what either side has written after `moment`. `None` when the tables are too large for that while projectors
    /// wait: finding what is new means going through them.
    ///
    /// # Errors
    /// Postgres is away, or refuses.
    pub async fn compare_what_is_new(
        &mut self,
        schemas: &Schemas,
        moment: Moment,
    ) -> Result<Option<Comparison>, sqlx::Error> {
        tell(&mut self.connection, "savepoint comparing").await?;
        match self.compare(schemas, &Which::Since(moment)).await {
            Ok(comparison) => Ok(Some(comparison)),
            Err(error) if is_statement_timeout(&error) => {
                tell(&mut self.connection, "rollback to savepoint comparing").await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Table by table, each in what is left of the time.
    async fn compare(
        &mut self,
        schemas: &Schemas,
        which: &Which,
    ) -> Result<Comparison, sqlx::Error> {
        let until = self.until();
        let mut comparison = Comparison::default();
        for table in compare::tables(&mut self.connection, schemas).await? {
            let left = until.saturating_duration_since(Instant::now());
            limit(&mut self.connection, left).await?;
            let compared = compare::table(&mut self.connection, schemas, &table, which);
            comparison.tables.push(compared.await?);
        }
        comparison
            .tables
            .sort_by(|one, other| one.name.cmp(&other.name));
        Ok(comparison)
    }

    /// Lets projectors go on as if nothing had been; returns the connection that has the turn.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn release(mut self) -> Result<PgConnection, sqlx::Error> {
        tell(&mut self.connection, "rollback").await?;
        Ok(self.connection)
    }

    /// Puts the shadow in the place of the live tables, which have the name `aside` from the same commit on. On disk when it
    /// returns, and with it everything that was folded.
    ///
    /// # Errors
    /// Postgres is away, hangs, or refuses. The commit may have gone through all the same, or still do so: once somebody else
    /// can [take](super::turn::take) the turn it is over, and [`identity`](super::turn::identity) tells what became of it.
    pub async fn swap(
        mut self,
        schemas: &Schemas,
        aside: &Schema,
    ) -> Result<PgConnection, sqlx::Error> {
        let Schemas { live, shadow, .. } = schemas;
        let left = (self.since + HELD_PATIENCE).saturating_duration_since(Instant::now());
        let swapping = async {
            limit(&mut self.connection, left).await?;
            let aside = format!("alter schema {live} rename to {aside}");
            tell(&mut self.connection, aside).await?;
            let in_place = format!("alter schema {shadow} rename to {live}");
            tell(&mut self.connection, in_place).await?;
            tell(&mut self.connection, "commit").await
        };
        timeout(left + COMMIT_PATIENCE, swapping)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))?;
        Ok(self.connection)
    }
}

fn is_statement_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "57014")
}

/// Makes every session look its names up once more, after a swap that kept the old tables: a statement that was parsed for
/// the first time in that very moment may have found one table before and one after.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn look_up_again(
    connection: &mut PgConnection,
    schemas: &Schemas,
) -> Result<(), sqlx::Error> {
    let Schemas { replaced, old, .. } = schemas;
    // There and back in one commit: under the name that it has now, it is never away.
    let there_and_back = format!(
        "begin; alter schema {old} rename to {replaced}; alter schema {replaced} rename to {old}; commit"
    );
    tell(connection, there_and_back).await
}

/// Whether somebody keeps tables under the name `old`.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn is_kept(
    connection: &mut PgConnection,
    schemas: &Schemas,
) -> Result<bool, sqlx::Error> {
    super::turn::identity(connection, &schemas.old)
        .await
        .map(|found| found.is_some())
}
