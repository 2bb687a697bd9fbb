//! Level with the live tables: folded to exactly where projectors stand, while they stand there.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_postgres::checkpoint::{self, Checkpoint};
use chat4all_postgres::rebuild::swap::{self, Lock, Locked};
use futures::future::try_join_all;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep, timeout_at};

use super::work::{Work, postgres};
use super::{Error, fold};

/// So few events can be folded while projectors wait.
const CLOSE: u64 = 1_000;
/// How often it is tried to come close. Each round folds what came during the one before, so two or three do.
const ROUNDS: usize = 30;
/// How often it is tried to hold projectors still. Longer, together, than a frozen one can hold on to its transaction.
const TRIES: usize = 10;
/// The pause in between.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the log may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may be silent while projectors wait.
const HELD_PATIENCE: Duration = Duration::from_secs(2);

/// Whether projectors wait.
pub(super) enum Level {
    /// They do, and the shadow is where they are.
    Held {
        /// The lock.
        locked: Locked,
    },
    /// We were asked to stop.
    Stopped,
}

impl Work {
    /// Folds what the live tables have, until little is missing.
    pub(super) async fn catch_up(&self, connection: &mut PgConnection) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            let live = checkpoint::read(&mut *connection).await;
            let live = live.map_err(postgres("read the live checkpoints"))?;
            let targets = self.targets(&live).await?;
            let ways = self.folder.ways(&targets).await.map_err(Error::Fold)?;
            let folded = self.folder.along(&ways, PATIENCE).await;
            folded.map_err(Error::Fold)?;
            if fold::length(&ways) <= CLOSE {
                return Ok(());
            }
        }
        Err(Error::Restless("events come as fast as they are folded"))
    }

    /// Catches up, and holds projectors still at a place that is folded, too.
    pub(super) async fn level(&self, mut connection: PgConnection) -> Result<Level, Error> {
        for _ in 0..TRIES {
            if self.stop.is_cancelled() {
                return Ok(Level::Stopped);
            }
            self.catch_up(&mut connection).await?;
            let lock = swap::lock(connection, &self.schemas).await;
            match lock.map_err(postgres("hold the live checkpoints"))? {
                Lock::Busy(given_back) => connection = given_back,
                Lock::Held(locked) => {
                    let (at, until) = (locked.at.clone(), locked.until());
                    let mut folding = pin!(self.fold_the_rest(&at));
                    let in_time = timeout_at(until, &mut folding).await;
                    if let Ok(Ok(true)) = in_time {
                        return Ok(Level::Held { locked });
                    }
                    let released = locked.release().await;
                    connection = released.map_err(postgres("let projectors go on"))?;
                    // Projectors do not wait for what is slow. What has begun is finished, before it is tried again.
                    let folded = match in_time {
                        Ok(folded) => folded,
                        Err(_) => folding.await,
                    };
                    match folded {
                        Ok(_) | Err(Error::Fold(fold::Error::Read(_)) | Error::End(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            sleep(PAUSE).await;
        }
        Err(Error::Restless("its checkpoints could not be held"))
    }

    /// `false` when there is too much to be folded while projectors wait.
    async fn fold_the_rest(&self, live: &BTreeMap<Partition, Checkpoint>) -> Result<bool, Error> {
        let targets = self.targets(live).await?;
        let ways = self.folder.ways(&targets).await.map_err(Error::Fold)?;
        if fold::length(&ways) > 2 * CLOSE {
            return Ok(false);
        }
        let folded = self.folder.along(&ways, HELD_PATIENCE).await;
        folded.map_err(Error::Fold)?;
        Ok(true)
    }

    /// Where to fold to: where the live tables stand, and not beyond the end of the log. They are beyond it when the log
    /// was restored from an older copy; then the comparison shows what they have and the log does not.
    async fn targets(
        &self,
        live: &BTreeMap<Partition, Checkpoint>,
    ) -> Result<BTreeMap<Partition, u64>, Error> {
        let (log, deadline) = (&self.folder.log, Instant::now() + HELD_PATIENCE);
        let ends = log.partitions().all().map(|partition| async move {
            let end = log.last_sequence(partition, deadline).await?;
            Ok((partition, end))
        });
        let mut targets: BTreeMap<_, _> = try_join_all(ends)
            .await
            .map_err(Error::End)?
            .into_iter()
            .collect();
        for (partition, target) in &mut targets {
            let live = live.get(partition).map_or(0, |at| at.sequence);
            *target = live.min(*target);
        }
        Ok(targets)
    }
}
