//! Read models made anew beside the live ones, while projectors and readers go on.
//!
//! 1. A *shadow*: the same tables in another schema, empty.
//! 2. The log is folded into it from the first event, by the transaction that projectors use.
//! 3. *Level*: projectors are kept from moving on for a moment, the shadow is folded to exactly where they stand.
//! 4. At that moment a snapshot of both is taken, and every row of it compared, with everybody at work again.
//! 5. Level again: what was written since the snapshot is compared, and the two schemas change their names.
//!
//! Guarantees. Readers see all rows at every moment; the swap is one commit. No event is lost or doubled by it: what a
//! projector writes next goes into the new tables, from the same position. Until that commit the live tables are not
//! touched, so that a rebuild may be stopped or killed at any time. Two rebuilds at once are one after the other, and the
//! second finds that it is done.
//!
//! Limits. The rows that differ are named, not mended by themselves: a difference needs somebody's word
//! ([`Differences::Accept`]). A rebuild that was cut off begins at the first event again. Disk for both sets of tables is
//! needed meanwhile.
//!
//! Source: docs/adr/0014-rebuild.md.

mod fold;
mod level;
mod progress;
mod read;
mod work;

use std::time::Duration;

use chat4all_nats::Log;
use chat4all_postgres::rebuild::compare::Comparison;
use chat4all_postgres::rebuild::shadow;
use chat4all_postgres::{self as postgres, migrate};
use chat4all_service::config::Poison;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use fold::Error as FoldError;
pub use progress::{Level, Phase, Progress};
pub use read::Error as ReadError;

/// What a rebuild needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the events are.
    pub log: Log,
    /// Where the live read models are.
    pub postgres: postgres::Config,
    /// What to do with an event that cannot be folded.
    pub poison: Poison,
    /// Events per transaction, at most.
    pub batch: usize,
    /// Partitions folded at a time, at least 1.
    pub workers: usize,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a rebuild is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To know whether the live tables are what the log says. They stay.
    Compare,
    /// To put new tables in the place of the live ones.
    Swap {
        /// What if they differ.
        differences: Differences,
        /// What becomes of the ones that were live.
        replaced: Replaced,
    },
}

/// What to do when live tables are not what the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differences {
    /// Leave them, and say which rows.
    Refuse,
    /// Replace them, and say which rows.
    Accept,
}

/// What becomes of the tables that were live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// They are dropped.
    Drop,
    /// They stay in the schema `<live>_old`.
    Keep,
}

/// How a rebuild ended.
#[derive(Debug)]
pub enum Outcome {
    /// It was only to compare.
    Compared(Comparison),
    /// Rows differ, and nobody said that they may be replaced. The live tables are untouched.
    Refused(Comparison),
    /// The new tables are live.
    Swapped(Swapped),
    /// Somebody else has swapped while this one, which was to swap, waited for its turn.
    DoneByAnother,
    /// It was asked to stop. The live tables are untouched.
    Stopped,
}

/// New tables are live.
#[derive(Debug)]
pub struct Swapped {
    /// What they are compared with what was, at the moment of the snapshot.
    pub comparison: Comparison,
    /// Whether what was written between the snapshot and the swap was compared, too: not when differences are accepted
    /// anyway, nor when the tables are too large to look for it while projectors wait.
    pub compared_to_the_end: bool,
    /// For how long projectors had to wait.
    pub held: Duration,
    /// Why what was live is still there under another name, if it should not be; the next rebuild drops it.
    pub left_behind: Option<sqlx::Error>,
}

/// Why there are no new tables. The live ones are untouched, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The live schema cannot be brought up to this release.
    #[error("failed to prepare the live read models")]
    Migrate(#[source] migrate::Error),
    /// There is nothing to fold into.
    #[error("failed to begin")]
    Shadow(#[source] shadow::Error),
    /// The log was not folded.
    #[error("failed to fold the log")]
    Fold(#[source] fold::Error),
    /// The log does not say where it ends.
    #[error("failed to ask where the log ends")]
    End(#[source] chat4all_nats::ReadError),
    /// Postgres is away, or refuses.
    #[error("failed to {doing}")]
    Postgres {
        /// What it was about.
        doing: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The commit of the swap was not answered, and neither was the question whether it went through: Postgres is away, or
    /// still at it. Readers see the old tables or the new ones, and all rows of them.
    #[error(
        "Postgres has not confirmed the swap, and whether it went through is not known; the live read models are whole either \
         way, and a rebuild that is started now waits until that is over"
    )]
    Unknown(#[source] sqlx::Error),
    /// Tables from an earlier rebuild are kept under the name that these were to be kept under.
    #[error(
        "schema {0} is there already, from an earlier rebuild: drop it, or do not keep the old tables"
    )]
    Kept(String),
    /// The live tables could not be held still for a moment, or move on faster than they are folded.
    #[error("the live read models do not hold still: {0}; try again when there is less to do")]
    Restless(&'static str),
}

/// Makes the read models anew, and says how it goes. Asked to `stop`, it clears away what it has made.
///
/// # Errors
/// See [`Error`].
pub async fn run(
    config: Config,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
) -> Result<Outcome, Error> {
    work::Work::new(config, progress, stop).run().await
}
