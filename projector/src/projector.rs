//! From one session to the next. Trouble that passes (Postgres away, the broker away, another projector on the same
//! partition) ends a session; the next one begins where the checkpoints are, so nothing is lost and nothing is doubled.

use std::collections::BTreeSet;
use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_nats::{Log, reader};
use chat4all_postgres as postgres;
use chat4all_service::config::Poison;
use chat4all_service::{Chain, Shutdown};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::lag::{self, Progress};
use crate::metrics::Metrics;
use crate::session::{self, End};

/// The first pause after trouble; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a projector needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the events are.
    pub log: Log,
    /// Where the rows go. Migrated at the start.
    pub postgres: postgres::Config,
    /// The partitions to fold; may change at any time. Two owners of one do no harm: one of them is refused.
    pub owned: watch::Receiver<BTreeSet<Partition>>,
    /// Events per transaction, at most.
    pub batch: usize,
    /// How long events are gathered after a commit. What comes later than that is folded at once.
    pub gather: Duration,
    /// What to do with an event that cannot be folded.
    pub poison: Poison,
    /// What is counted.
    pub metrics: Metrics,
}

/// Why a projector cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A checkpoint is ahead of its stream: the log was restored from an older copy, or is another one. Rows would be
    /// missing what the log says next, so nothing is folded. Rebuild the read models, or bring the right log back.
    #[error("the read models are ahead of the log")]
    Ahead(#[source] reader::Error),
    /// The event that a checkpoint names is not the one that was folded: the log was restored from an older copy and has
    /// gone on, or is another one. Rebuild the read models, or bring the right log back.
    #[error("the read models are of another log: {0}")]
    AnotherLog(String),
}

/// Events in, rows out.
#[derive(Debug)]
pub struct Projector {
    pub(crate) config: Config,
    /// Partitions of ours that met an event that cannot be folded, and stand before it until the process starts anew, or
    /// until they are given up.
    pub(crate) halted: BTreeSet<Partition>,
    pub(crate) progress: Progress,
    pub(crate) migrated: bool,
    pub(crate) pause: Duration,
}

impl Projector {
    /// Folds until `shutdown` asks to stop; what is being written then is finished.
    ///
    /// # Errors
    /// Only what waiting cannot mend, see [`Error`].
    pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
        let progress = Progress::new(config.metrics.clone());
        let measuring = lag::measure(config.log.clone(), progress.clone());
        let projector = Self {
            config,
            halted: BTreeSet::new(),
            progress,
            migrated: false,
            pause: FIRST_PAUSE,
        };
        tokio::select! {
            ended = projector.sessions(&shutdown) => ended,
            never = measuring => match never {},
        }
    }

    async fn sessions(mut self, shutdown: &Shutdown) -> Result<(), Error> {
        loop {
            match self.session(shutdown.soft()).await {
                Ok(End::Stopped) => return Ok(()),
                Ok(End::OwnedChanged | End::Halted) => continue,
                Err(session::Error::Follow(source @ reader::Error::Ahead { .. })) => {
                    error!(error = %Chain(&source), "a checkpoint is ahead of the log; nothing is folded");
                    return Err(Error::Ahead(source));
                }
                Err(source @ session::Error::AnotherLog(_)) => {
                    error!(error = %Chain(&source), "nothing is folded");
                    return Err(Error::AnotherLog(source.to_string()));
                }
                Err(error @ session::Error::Superseded) => {
                    info!(error = %Chain(&error), "beginning again at the checkpoints");
                }
                Err(error) => {
                    let retry_in_ms = self.pause.as_millis() as u64;
                    warn!(error = %Chain(&error), retry_in_ms, "folding was interrupted");
                }
            }
            tokio::select! {
                () = sleep(self.pause) => self.pause = (self.pause * 2).min(LONGEST_PAUSE),
                () = shutdown.soft().cancelled() => return Ok(()),
            }
        }
    }

    /// Something was folded: the next trouble is a new one.
    pub(crate) fn all_is_well(&mut self) {
        self.pause = FIRST_PAUSE;
    }
}
