//! Waiting until the read models have reached a position: for reading one's own writes, and for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{Partition, Position};
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::checkpoint::{self, Checkpoint};
use crate::read::{Lease, Refused};

/// How often the checkpoints are looked at while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Knows how far the read models have come. Waiters share one look: at most one of them asks Postgres at a time, and
/// nobody does when nobody waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Projected {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    refused: Refused,
    /// Held by the waiter who looks for all.
    looking: Mutex<()>,
    seen: watch::Sender<BTreeMap<Partition, Checkpoint>>,
}

/// The position was not reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not by the deadline. Everything up to here was.
    #[error("the read models are at {reached} and have not reached {wanted} yet")]
    NotYet {
        /// What was waited for.
        wanted: Position,
        /// The last position seen in that partition.
        reached: Position,
    },
    /// Postgres is away, or refuses.
    #[error("failed to look how far the read models have come")]
    Look(#[source] sqlx::Error),
}

impl Projected {
    /// Looks through `pool`.
    pub fn new(pool: PgPool) -> Self {
        let (looking, seen) = (Mutex::default(), watch::Sender::default());
        Self {
            inner: Arc::new(Inner {
                pool,
                refused: Refused::default(),
                looking,
                seen,
            }),
        }
    }

    /// Waits until everything up to `position` is in the tables.
    ///
    /// # Errors
    /// [`Error::NotYet`] when `deadline` comes first; [`Error::Look`] when Postgres cannot be asked.
    pub async fn up_to(&self, position: Position, deadline: Instant) -> Result<(), Error> {
        let waiting = self.wait(position);
        timeout_at(deadline, waiting).await.unwrap_or_else(|_| {
            Err(Error::NotYet {
                wanted: position,
                reached: self.reached(position.partition),
            })
        })
    }

    /// The last position seen in a partition, without looking.
    pub fn reached(&self, partition: Partition) -> Position {
        let seen = self.inner.seen.borrow();
        let sequence = seen.get(&partition).map_or(0, |at| at.sequence);
        Position::new(partition, sequence)
    }

    async fn wait(&self, position: Position) -> Result<(), Error> {
        let mut seen = self.inner.seen.subscribe();
        loop {
            if self.reached(position.partition).sequence >= position.sequence {
                return Ok(());
            }
            tokio::select! {
                // The one who looks goes away with its lock, at its deadline or with its caller; then it is the next one's turn.
                _turn = self.inner.looking.lock() => self.look().await?,
                changed = seen.changed() => changed.expect("the sender lives in self"),
            }
        }
    }

    /// Looks once, tells everybody, and lets a moment pass before the next look.
    async fn look(&self) -> Result<(), Error> {
        let lease = Lease::take(&self.inner.pool, &self.inner.refused).await;
        let mut lease = lease.map_err(Error::Look)?;
        let found = checkpoint::read(&mut *lease.connection).await;
        lease.settled = true;
        let found = found.map_err(Error::Look)?;
        let news = self.inner.seen.send_if_modified(|seen| {
            let news = *seen != found;
            *seen = found;
            news
        });
        if !news {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}
