//! What somebody who waits for a rebuild wants to know.

use std::collections::BTreeMap;

use chat4all_domain::Partition;
use chat4all_postgres::rebuild::turn::Holder;
use tokio::sync::watch;

/// What a rebuild is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Somebody else is rebuilding; this one waits for its turn. Who it is, if they have not just finished.
    Waiting(Option<Holder>),
    /// Making empty tables.
    #[default]
    Preparing,
    /// Folding the log from the first event.
    Folding,
    /// Making indexes and statistics.
    Finishing,
    /// Comparing with the live tables.
    Comparing,
    /// Taking the place of the live tables.
    Swapping,
    /// Nothing was heard of the swap's commit: asking, on another connection, what became of it.
    Asking,
    /// Dropping what is not needed any more.
    ClearingAway,
}

/// How far one partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The last event folded.
    pub at: u64,
    /// The last event to be folded, as far as is known; grows while the live tables move on.
    pub to: u64,
}

/// How far a rebuild is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Each partition.
    pub partitions: BTreeMap<Partition, Level>,
}

impl Progress {
    /// Events folded so far.
    pub fn folded(&self) -> u64 {
        self.partitions.values().map(|level| level.at).sum()
    }
    /// Events to be folded altogether.
    pub fn total(&self) -> u64 {
        let to = |level: &Level| level.to.max(level.at);
        self.partitions.values().map(to).sum()
    }
}

/// Tells whoever looks.
#[derive(Clone, Debug)]
pub(super) struct Teller(pub watch::Sender<Progress>);

impl Teller {
    pub fn phase(&self, phase: Phase) {
        self.0.send_if_modified(|progress| {
            let news = progress.phase != phase;
            progress.phase = phase;
            news
        });
    }
    pub fn folded(&self, partition: Partition, at: u64) {
        self.0
            .send_modify(|progress| progress.partitions.entry(partition).or_default().at = at);
    }
    pub fn targets(&self, targets: &BTreeMap<Partition, u64>) {
        self.0.send_modify(|progress| {
            for (partition, to) in targets {
                progress.partitions.entry(*partition).or_default().to = *to;
            }
        });
    }
    /// As somebody else's checkpoints show it.
    pub fn seen(&self, folded: BTreeMap<Partition, u64>) {
        for (partition, at) in folded {
            self.folded(partition, at);
        }
    }
}
