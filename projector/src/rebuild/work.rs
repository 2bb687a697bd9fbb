//! From the first event to the swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat4all_postgres::rebuild::compare::{self, Comparison, Moment};
use chat4all_postgres::rebuild::shadow::{self, Shadow};
use chat4all_postgres::rebuild::{Schemas, swap, turn};
use chat4all_postgres::{checkpoint, migrate};
use sqlx::PgConnection;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::fold::Folder;
use super::level::Level;
use super::progress::{Phase, Progress, Teller};
use super::{Config, Differences, Error, Outcome, Purpose, Replaced, Swapped};

/// How often somebody who waits for their turn looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it is tried to have the turn again, until the server has noticed that the connection which had it is gone.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// A rebuild at work.
pub(super) struct Work {
    pub config: Config,
    pub schemas: Schemas,
    pub folder: Folder,
    pub tell: Teller,
    pub stop: CancellationToken,
    /// Whether there may be something to clear away.
    begun: AtomicBool,
}

/// Whether it goes on.
enum Prepared {
    /// Compared; the new tables wait to take their place.
    Ready(Ready),
    /// It is over.
    Ended(Outcome),
}

struct Ready {
    connection: PgConnection,
    comparison: Comparison,
    moment: Moment,
}

impl Work {
    pub fn new(config: Config, progress: watch::Sender<Progress>, stop: CancellationToken) -> Self {
        let schemas = Schemas::of(config.postgres.schema());
        let tell = Teller(progress);
        let into = config.postgres.with_schema(schemas.shadow.clone());
        // One each, and one to look how far they are.
        let connections = u32::try_from(config.workers.max(1))
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let folder = Folder {
            log: config.log.clone(),
            shadow: into.pool_to_fold(connections),
            poison: config.poison,
            batch: config.batch,
            tell: tell.clone(),
            workers: Arc::new(Semaphore::new(config.workers.max(1))),
        };
        Self {
            config,
            schemas,
            folder,
            tell,
            stop,
            begun: AtomicBool::new(false),
        }
    }

    pub async fn run(self) -> Result<Outcome, Error> {
        let prepared = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(Prepared::Ended(Outcome::Stopped)),
            prepared = self.prepare() => prepared,
        };
        // From here on nothing is cut off: it takes seconds, and looks by itself whether it should stop.
        let ended = match prepared {
            Ok(Prepared::Ready(ready)) => self.swap(ready).await,
            Ok(Prepared::Ended(outcome)) => Ok(outcome),
            Err(error) => Err(error),
        };
        match &ended {
            Ok(Outcome::Swapped(_) | Outcome::DoneByAnother) => {}
            // Postgres is away, or still at the commit. The next rebuild clears away.
            Err(Error::Unknown(_)) => {}
            Ok(Outcome::Compared(_) | Outcome::Refused(_) | Outcome::Stopped) | Err(_) => {
                self.clear_away().await;
            }
        }
        ended
    }

    async fn prepare(&self) -> Result<Prepared, Error> {
        let migrated = migrate::migrate(&self.config.postgres).await;
        migrated.map_err(Error::Migrate)?;
        let mut connection = self.connect().await?;
        if !self.has_turn(&mut connection).await? {
            return Ok(Prepared::Ended(Outcome::DoneByAnother));
        }
        self.refuse_to_overwrite(&mut connection).await?;

        self.tell.phase(Phase::Preparing);
        let shadow = self.make_shadow(&mut connection).await?;
        self.tell.phase(Phase::Folding);
        self.catch_up(&mut connection).await?;
        self.tell.phase(Phase::Finishing);
        let mut another = self.connect().await?;
        let finished = shadow
            .finish(&mut connection, &mut another, &self.schemas)
            .await;
        finished.map_err(postgres("finish the new tables"))?;

        self.tell.phase(Phase::Comparing);
        // Connected before projectors have to wait for it.
        let mut seeing = self.connect().await?;
        let (snapshot, connection) = match self.level(connection).await? {
            Level::Stopped => return Ok(Prepared::Ended(Outcome::Stopped)),
            Level::Held { locked } => {
                let snapshot = timeout_at(locked.until(), compare::begin(&mut seeing)).await;
                let released = locked.release().await;
                let snapshot = snapshot.unwrap_or(Err(sqlx::Error::PoolTimedOut));
                (
                    snapshot.map_err(postgres("take a snapshot"))?,
                    released.map_err(postgres("let projectors go on"))?,
                )
            }
        };
        let comparing = compare::compare(&mut seeing, &mut another, &self.schemas, &snapshot);
        let comparing = comparing.await;
        let comparison = comparing.map_err(postgres("compare"))?;
        Ok(match self.config.purpose {
            Purpose::Compare => Prepared::Ended(Outcome::Compared(comparison)),
            Purpose::Swap {
                differences: Differences::Refuse,
                ..
            } if !comparison.is_equal() => Prepared::Ended(Outcome::Refused(comparison)),
            Purpose::Swap { .. } => Prepared::Ready(Ready {
                connection,
                comparison,
                moment: snapshot.moment,
            }),
        })
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let connecting = self.config.postgres.connect_for_long().await;
        connecting.map_err(postgres("connect"))
    }

    /// Waits for the turn. `false` when somebody else has done meanwhile what this one is for: a swap. To compare is still to
    /// be done; the tables are other ones now.
    async fn has_turn(&self, connection: &mut PgConnection) -> Result<bool, Error> {
        let live = &self.schemas.live;
        let looking = "look who rebuilds";
        let before = turn::identity(connection, live)
            .await
            .map_err(postgres(looking))?;
        while !turn::take(connection, live)
            .await
            .map_err(postgres(looking))?
        {
            let holder = turn::holder(connection, live)
                .await
                .map_err(postgres(looking))?;
            self.tell.phase(Phase::Waiting(holder));
            // Theirs come and go: how far they are is worth a look, and no error.
            if let Ok(at) = self.folder.at().await {
                self.tell.seen(at);
            }
            if let Ok(live) = checkpoint::read(&mut *connection).await {
                let to = live
                    .into_iter()
                    .map(|(partition, at)| (partition, at.sequence));
                self.tell.targets(&to.collect());
            }
            sleep(LOOK_EVERY).await;
        }
        let now = turn::identity(connection, live)
            .await
            .map_err(postgres(looking))?;
        Ok(match self.config.purpose {
            Purpose::Compare => true,
            Purpose::Swap { .. } => now == before,
        })
    }

    async fn refuse_to_overwrite(&self, connection: &mut PgConnection) -> Result<(), Error> {
        match self.config.purpose {
            Purpose::Compare
            | Purpose::Swap {
                replaced: Replaced::Drop,
                ..
            } => return Ok(()),
            Purpose::Swap {
                replaced: Replaced::Keep,
                ..
            } => {}
        }
        let kept = swap::is_kept(connection, &self.schemas).await;
        if kept.map_err(postgres("look for kept tables"))? {
            return Err(Error::Kept(self.schemas.old.to_string()));
        }
        Ok(())
    }

    async fn make_shadow(&self, connection: &mut PgConnection) -> Result<Shadow, Error> {
        self.begun.store(true, Ordering::Relaxed);
        let partitions: Vec<_> = self.config.log.partitions().all().collect();
        let made = shadow::make(connection, &self.config.postgres, &partitions).await;
        made.map_err(Error::Shadow)
    }

    async fn swap(&self, ready: Ready) -> Result<Outcome, Error> {
        let Purpose::Swap {
            differences,
            replaced,
        } = self.config.purpose
        else {
            return Ok(Outcome::Compared(ready.comparison));
        };
        self.tell.phase(Phase::Swapping);
        let before = self
            .live()
            .await
            .map_err(postgres("look at the live schema"))?;
        let mut locked = match self.level(ready.connection).await? {
            Level::Held { locked } => locked,
            Level::Stopped => return Ok(Outcome::Stopped),
        };
        let since = locked.since;
        let again = match differences {
            Differences::Accept => None,
            Differences::Refuse => locked
                .compare_what_is_new(&self.schemas, ready.moment)
                .await
                .map_err(postgres("compare what is new"))?,
        };
        let compared_to_the_end = again.is_some();
        if let Some(again) = again
            && !again.is_equal()
        {
            return Ok(Outcome::Refused(again));
        }
        if self.stop.is_cancelled() {
            return Ok(Outcome::Stopped);
        }
        // Kept under that name from the swap on: nobody may take them for something to be cleared away.
        let aside = match replaced {
            Replaced::Drop => &self.schemas.replaced,
            Replaced::Keep => &self.schemas.old,
        };
        let mut connection = match locked.swap(&self.schemas, aside).await {
            Ok(connection) => connection,
            Err(source) => self.unless_swapped(before, source).await?,
        };
        let held = since.elapsed();
        self.tell.phase(Phase::ClearingAway);
        let mut left_behind = self.put_away(&mut connection, replaced).await.err();
        if left_behind.is_some()
            && let Ok(mut another) = self.config.postgres.connect().await
        {
            left_behind = self.put_away(&mut another, replaced).await.err();
        }
        Ok(Outcome::Swapped(Swapped {
            comparison: ready.comparison,
            compared_to_the_end,
            held,
            left_behind,
        }))
    }

    /// Passes the error of a swap on, unless it was swapped although nobody heard of it; then a connection that has the turn.
    /// Who has it knows that the connection which was to swap has ended, and with it the commit, one way or the other.
    async fn unless_swapped(
        &self,
        before: Option<i64>,
        source: sqlx::Error,
    ) -> Result<PgConnection, Error> {
        self.tell.phase(Phase::Asking);
        let Some(mut connection) = self.turn_again().await else {
            return Err(Error::Unknown(source));
        };
        match turn::identity(&mut connection, &self.schemas.live).await {
            Ok(now) if now == before => Err(postgres("swap")(source)),
            Ok(_) => Ok(connection),
            Err(_) => Err(Error::Unknown(source)),
        }
    }

    /// Another connection, with the turn. `None` if it cannot be had in time.
    async fn turn_again(&self) -> Option<PgConnection> {
        let taking = async {
            loop {
                if let Ok(mut connection) = self.config.postgres.connect().await
                    && let Ok(true) = turn::take(&mut connection, &self.schemas.live).await
                {
                    return connection;
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(TURN_PATIENCE, taking).await.ok()
    }

    async fn live(&self) -> Result<Option<i64>, sqlx::Error> {
        let mut connection = self.config.postgres.connect().await?;
        turn::identity(&mut connection, &self.schemas.live).await
    }

    async fn put_away(
        &self,
        connection: &mut PgConnection,
        replaced: Replaced,
    ) -> Result<(), sqlx::Error> {
        match replaced {
            Replaced::Drop => shadow::clear(connection, &self.schemas).await,
            Replaced::Keep => swap::look_up_again(connection, &self.schemas).await,
        }
    }

    /// Drops what was folded. If that fails, the next rebuild does it.
    async fn clear_away(&self) {
        if !self.begun.load(Ordering::Relaxed) {
            return;
        }
        self.tell.phase(Phase::ClearingAway);
        if let Some(mut connection) = self.turn_again().await {
            // Whatever it says: what is left does no harm.
            let _ = shadow::clear(&mut connection, &self.schemas).await;
        }
    }
}

/// An error of Postgres, with what it was about.
pub(super) fn postgres(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Postgres { doing, source }
}
