//! One session: one connection to Postgres, one feed per partition from its checkpoint on, and batch after batch until
//! something ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_domain::{Partition, Position};
use chat4all_nats::{ReadError, reader};
use chat4all_postgres::checkpoint::{self, Checkpoint};
use chat4all_postgres::migrate;
use chat4all_service::config::Poison;
use futures::future::try_join_all;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info};

use crate::batch::{Batch, Event};
use crate::intake::Intake;
use crate::projector::Projector;
use crate::trace;
use crate::transaction::{self, Refused};

/// How long beginning a session, and writing one batch, may take. Longer than any one statement: a server that hangs is
/// left for a new connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long bringing the schema up may take: a migration may have to rewrite a table.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(3_600);

/// Why a session ended without trouble.
pub(crate) enum End {
    /// We were asked to stop.
    Stopped,
    /// Other partitions are ours now.
    OwnedChanged,
    /// A partition met an event that cannot be folded, and waits before it.
    Halted,
}

/// What interrupted a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to prepare the read models")]
    Migrate(#[source] migrate::Error),
    #[error("failed to read the checkpoints")]
    Checkpoints(#[source] sqlx::Error),
    #[error("failed to look at the event of a checkpoint")]
    Look(#[source] ReadError),
    #[error(
        "the event at {0} is not the one that was folded there: this is another log than the read models are of, or it was \
         restored from an older copy and has gone on"
    )]
    AnotherLog(Position),
    #[error("failed to follow the log")]
    Follow(#[source] reader::Error),
    #[error("a checkpoint was moved by another projector")]
    Superseded,
    #[error("failed to write a batch")]
    Write(#[source] sqlx::Error),
    #[error("it took longer than {} s; Postgres or the broker hangs", .0.as_secs())]
    Hung(Duration),
    #[error("the events of partition {0} have a hole")]
    Hole(Partition),
}

impl Projector {
    pub(crate) async fn session(&mut self, stop: &CancellationToken) -> Result<End, Error> {
        let ours = self.config.owned.borrow_and_update().clone();
        self.give_up_all_but(&ours);
        let owned: Vec<_> = ours.difference(&self.halted).copied().collect();
        let begun = tokio::select! {
            begun = self.begin(&owned) => begun?,
            () = stop.cancelled() => return Ok(End::Stopped),
        };
        let (mut connection, mut intake) = begun;
        // Nobody lets go of the sender while the process runs; if they do, what we own stays as it is.
        let mut may_change = true;
        // The first batch is folded at once.
        let mut not_before = Instant::now();
        loop {
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                changed = self.config.owned.changed(), if may_change => {
                    if changed.is_ok() {
                        return Ok(End::OwnedChanged);
                    }
                    may_change = false;
                    continue;
                }
                taken = intake.take(self.config.batch, not_before) => taken.map_err(Error::Follow)?,
            };
            let halted = self.halted.len();
            let spans = trace::spans(&taken);
            let folding = self.fold(&mut connection, &intake, taken);
            let folding = folding.instrument(spans.batch.clone());
            in_time(PATIENCE, folding).await?;
            not_before = Instant::now() + self.config.gather;
            self.all_is_well();
            if self.halted.len() > halted {
                return Ok(End::Halted);
            }
        }
    }

    /// A partition that is given up is not halted here any more: another projector may get past the event. If it comes back,
    /// it is tried again.
    fn give_up_all_but(&mut self, ours: &BTreeSet<Partition>) {
        let given_up: Vec<_> = self.halted.difference(ours).copied().collect();
        for partition in given_up {
            self.halted.remove(&partition);
            self.config.metrics.not_halted(partition);
        }
    }

    async fn begin(&mut self, owned: &[Partition]) -> Result<(PgConnection, Intake), Error> {
        if !self.migrated {
            let migrating = migrate::migrate(&self.config.postgres);
            in_time(MIGRATION_PATIENCE, async {
                migrating.await.map_err(Error::Migrate)
            })
            .await?;
            self.migrated = true;
        }
        in_time(PATIENCE, self.open(owned)).await
    }

    /// A connection, and feeds that begin where the checkpoints are.
    async fn open(&self, owned: &[Partition]) -> Result<(PgConnection, Intake), Error> {
        let connecting = self.config.postgres.connect_to_fold().await;
        let mut connection = connecting.map_err(Error::Checkpoints)?;
        checkpoint::ensure(&mut connection, owned)
            .await
            .map_err(Error::Checkpoints)?;
        let mut checkpoints = checkpoint::read(&mut connection)
            .await
            .map_err(Error::Checkpoints)?;
        // A halted one is ours and is not folded: its lag is to be seen all the same.
        let ours = self.config.owned.borrow().clone();
        checkpoints.retain(|partition, _| ours.contains(partition));
        self.progress.begin(&checkpoints);
        checkpoints.retain(|partition, _| owned.contains(partition));
        self.same_log(&checkpoints).await?;
        let from: BTreeMap<_, _> = checkpoints
            .iter()
            .map(|(partition, at)| (*partition, at.sequence))
            .collect();
        let intake = Intake::open(&self.config.log, &from)
            .await
            .map_err(Error::Follow)?;
        info!(partitions = from.len(), "folding {} partitions", from.len());
        Ok((connection, intake))
    }

    /// Positions are numbers, and another log has the same ones: a log that was restored from an older copy and has gone on
    /// past our checkpoints looks like the one we know. So the event that was folded last is looked at again.
    async fn same_log(&self, checkpoints: &BTreeMap<Partition, Checkpoint>) -> Result<(), Error> {
        let looks = checkpoints.iter().map(async |(partition, at)| {
            let Some(folded) = at.recorded_at.filter(|_| at.sequence > 0) else {
                return Ok(());
            };
            let deadline = Instant::now() + PATIENCE;
            let stored = self.config.log.event_at(*partition, at.sequence, deadline);
            match stored.await.map_err(Error::Look)? {
                Some(stored) if Event::read(*partition, stored.clone()).recorded_at() != folded => {
                    Err(Error::AnotherLog(Position::new(*partition, at.sequence)))
                }
                // One that is not there is ahead of the log, which opening its feed finds.
                Some(_) | None => Ok(()),
            }
        });
        try_join_all(looks).await.map(drop)
    }

    /// Folds one batch, in one transaction unless the database refuses something in it: then in halves, until the event
    /// that is refused stands alone.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        intake: &Intake,
        taken: Vec<Event>,
    ) -> Result<(), Error> {
        let mut left = vec![Batch::new(taken)];
        while let Some(mut batch) = left.pop() {
            self.cut_off_what_halts(&mut batch);
            if batch.is_empty() {
                continue;
            }
            let began = Instant::now();
            match transaction::write(connection, &batch).await {
                Ok(()) => self.written(&batch, intake, began.elapsed()),
                Err(transaction::Error::Refused(refused)) => {
                    isolate(batch, refused, &mut left)
                        .map_err(|refused| Error::Write(refused.source))?;
                }
                Err(transaction::Error::Superseded) => return Err(Error::Superseded),
                Err(transaction::Error::Hole(partition)) => return Err(Error::Hole(partition)),
                Err(transaction::Error::Postgres(source)) => return Err(Error::Write(source)),
            }
        }
        Ok(())
    }

    /// With `halt`, nothing from the first unreadable event of a partition on is folded.
    fn cut_off_what_halts(&mut self, batch: &mut Batch) {
        match self.config.poison {
            Poison::Park => return,
            Poison::Halt => {}
        }
        // What the other half of this batch had before it is folded; what follows is not.
        batch.remove(&self.halted);
        for (position, reason) in batch.cut_off_unreadable() {
            self.halted.insert(position.partition);
            self.config.metrics.halted(position.partition);
            error!(
                %position, reason,
                "partition {} is halted before the event at {position}", position.partition
            );
        }
    }

    fn written(&self, batch: &Batch, intake: &Intake, took: Duration) {
        for run in batch.runs().into_iter().flatten() {
            self.progress.folded(&run);
            intake.committed(run.partition, run.last);
        }
        for (position, reason) in batch.unreadable() {
            self.config.metrics.parked(position.partition);
            error!(%position, reason, "parked the event at {position} as a dead letter");
        }
        self.config.metrics.batch(batch.len(), took);
    }
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(patience, work)
        .await
        .unwrap_or(Err(Error::Hung(patience)))
}

/// Halves a batch that was refused, or marks the one event in it.
///
/// # Errors
/// The refusal, when it is not about the event.
pub(crate) fn isolate(
    batch: Batch,
    refused: Refused,
    left: &mut Vec<Batch>,
) -> Result<(), Refused> {
    match batch.halve() {
        Ok((first, second)) => {
            left.push(second);
            left.push(first);
            Ok(())
        }
        // The database does not even take it as a dead letter: that is not about the event.
        Err(single) if single.unreadable().next().is_some() => Err(refused),
        Err(single) => {
            left.push(single.marked_unreadable(&refused.why.to_string()));
            Ok(())
        }
    }
}
