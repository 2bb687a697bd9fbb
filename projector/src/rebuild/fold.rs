//! Folding the log into the shadow, several partitions at a time: by the same transaction as ever, in larger batches, new
//! rows by `COPY`, and with the rows of the batches before at hand. Nobody else writes there, which is what allows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{Partition, Position};
use chat4all_nats::Log;
use chat4all_postgres::checkpoint;
use chat4all_service::config::Poison;
use sqlx::{PgConnection, PgPool};
use tokio::join;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::progress::Teller;
use super::read::{self, Chunk, Form};
use crate::batch::{Batch, Event};
use crate::rows::Rows;
use crate::session::isolate;
use crate::transaction::{self, Refused};

/// About how many bytes of payload are folded together, at most.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Why the log was not folded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be read.
    #[error("failed to read the log")]
    Read(#[from] read::Error),
    /// Postgres is away, or out of sorts.
    #[error("failed to write into the new tables")]
    Write(#[source] sqlx::Error),
    /// Somebody else writes into the new tables.
    #[error("somebody else writes into the new tables")]
    Superseded,
    /// The events of a partition have a hole.
    #[error("the events of partition {0} have a hole")]
    Hole(Partition),
    /// With `projector.poison = "halt"`: an event cannot be folded.
    #[error("the event at {position} cannot be folded ({reason}), and projector.poison = \"halt\"")]
    Poison {
        /// Where it stands.
        position: Position,
        /// What is wrong with it; nothing personal.
        reason: String,
    },
}

/// For each partition, the last event that is folded, and the last that is to be.
pub(super) type Ways = BTreeMap<Partition, (u64, u64)>;

/// How many events there are on the ways.
pub(super) fn length(ways: &Ways) -> u64 {
    ways.values().map(|(after, to)| to - after).sum()
}

/// Who folds. Cheap to clone.
#[derive(Clone)]
pub(super) struct Folder {
    pub log: Log,
    /// Connections whose tables are the shadow's.
    pub shadow: PgPool,
    pub poison: Poison,
    pub batch: usize,
    pub tell: Teller,
    /// One permit for each partition that may be folded at a time.
    pub workers: Arc<Semaphore>,
}

impl Folder {
    /// Folds each partition along its way; those that have none stay where they are.
    pub async fn along(&self, ways: &Ways, patience: Duration) -> Result<(), Error> {
        let mut tasks = JoinSet::new();
        for (partition, way) in ways {
            let (folder, partition, way) = (self.clone(), *partition, *way);
            tasks.spawn(async move { folder.partition(partition, way, patience).await });
        }
        while let Some(ended) = tasks.join_next().await {
            // Aborted only together with whoever would see it here.
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        }
        Ok(())
    }

    /// The ways from where the shadow is to `targets`.
    pub async fn ways(&self, targets: &BTreeMap<Partition, u64>) -> Result<Ways, Error> {
        let at = self.at().await?;
        self.tell.targets(targets);
        let way = |(partition, to): (&Partition, &u64)| {
            let after = at.get(partition).copied().unwrap_or_default();
            (*to > after).then_some((*partition, (after, *to)))
        };
        Ok(targets.iter().filter_map(way).collect())
    }

    /// How far each partition has been folded.
    pub async fn at(&self) -> Result<BTreeMap<Partition, u64>, Error> {
        let at = checkpoint::read(&self.shadow).await.map_err(Error::Write)?;
        let sequence =
            |(partition, at): (Partition, checkpoint::Checkpoint)| (partition, at.sequence);
        Ok(at.into_iter().map(sequence).collect())
    }

    async fn partition(
        &self,
        partition: Partition,
        way: (u64, u64),
        patience: Duration,
    ) -> Result<(), Error> {
        let _turn = self.workers.acquire().await.expect("it is never closed");
        let mut connection = self.shadow.acquire().await.map_err(Error::Write)?;
        let (sender, mut chunks) = read::ahead();
        let mut reader = JoinSet::new();
        reader.spawn(read::read(
            (self.log.clone(), partition, Form::Slim),
            way,
            (patience, self.batch),
            sender,
        ));
        // Of this partition, which nobody else folds into these tables; refused by the checkpoint if somebody does.
        let (mut rows, mut folded) = (Rows::default(), way.0);
        while let Some(events) = gather(&mut chunks, self.batch).await {
            let last = events.last().map_or(way.0, |event| event.position.sequence);
            if !self.copy(&mut connection, events, &mut rows).await? {
                let whole = self.whole(partition, (folded, last), patience).await?;
                self.write(&mut connection, whole).await?;
            }
            folded = last;
            self.tell.folded(partition, last);
        }
        match reader.join_next().await {
            Some(Ok(ended)) => Ok(ended?),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => Ok(()),
        }
    }

    /// By `COPY`. `false` when something in it is refused: then nothing is written.
    async fn copy(
        &self,
        connection: &mut PgConnection,
        events: Vec<Event>,
        rows: &mut Rows,
    ) -> Result<bool, Error> {
        let batch = Batch::new(events);
        self.refuse_poison(&batch)?;
        match transaction::copy(connection, &batch, rows).await {
            Ok(()) => Ok(true),
            Err(transaction::Error::Refused(_)) => {
                *rows = Rows::default();
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The events behind `way.0` up to `way.1` once more, as they stand on the log.
    async fn whole(
        &self,
        partition: Partition,
        way: (u64, u64),
        patience: Duration,
    ) -> Result<Vec<Event>, Error> {
        let (sender, mut chunks) = read::ahead();
        let of = (self.log.clone(), partition, Form::Whole);
        let all = async {
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.extend(chunk.events);
            }
            all
        };
        let (read, all) = join!(read::read(of, way, (patience, self.batch), sender), all);
        read?;
        Ok(all)
    }

    /// By the projector's own statements, which say which event is refused.
    async fn write(&self, connection: &mut PgConnection, events: Vec<Event>) -> Result<(), Error> {
        let mut left = vec![Batch::new(events)];
        while let Some(batch) = left.pop() {
            self.refuse_poison(&batch)?;
            match transaction::write(connection, &batch).await {
                Ok(()) => {}
                Err(transaction::Error::Refused(refused)) => isolate(batch, refused, &mut left)
                    .map_err(|refused| Error::Write(refused.source))?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn refuse_poison(&self, batch: &Batch) -> Result<(), Error> {
        match (self.poison, batch.unreadable().next()) {
            (Poison::Halt, Some((position, reason))) => Err(Error::Poison {
                position,
                reason: reason.to_owned(),
            }),
            (Poison::Halt, None) | (Poison::Park, _) => Ok(()),
        }
    }
}

impl From<transaction::Error> for Error {
    fn from(error: transaction::Error) -> Self {
        match error {
            transaction::Error::Superseded => Self::Superseded,
            transaction::Error::Hole(partition) => Self::Hole(partition),
            transaction::Error::Refused(Refused { source, .. })
            | transaction::Error::Postgres(source) => Self::Write(source),
        }
    }
}

/// A full batch, or what is left; `None` when there is nothing more.
async fn gather(chunks: &mut mpsc::Receiver<Chunk>, most: usize) -> Option<Vec<Event>> {
    let Chunk {
        mut events,
        mut bytes,
    } = chunks.recv().await?;
    while events.len() < most && bytes < BATCH_BYTES {
        let Some(more) = chunks.recv().await else {
            break;
        };
        bytes += more.bytes;
        events.extend(more.events);
    }
    Some(events)
}
