//! How far the read models are behind the log: measured beside the folding, so that it shows when folding stands still.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat4all_domain::{Partition, Timestamp};
use chat4all_nats::Log;
use chat4all_postgres::checkpoint::{Checkpoint, Run};
use chat4all_service::clock;
use tokio::time::{Instant, sleep};

use crate::metrics::Metrics;

/// How often the log is asked where it ends.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far each owned partition has been folded. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    partitions: Arc<Mutex<BTreeMap<Partition, Level>>>,
    metrics: Metrics,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    sequence: u64,
    /// Until when nothing was missing, as far as is known.
    current_at: Timestamp,
}

impl Progress {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            partitions: Arc::default(),
            metrics,
        }
    }

    /// These are ours now, halted ones among them, and stand here.
    pub fn begin(&self, checkpoints: &BTreeMap<Partition, Checkpoint>) {
        let now = Timestamp::from(clock::now());
        let mut partitions = self.partitions();
        for partition in partitions.keys() {
            if !checkpoints.contains_key(partition) {
                self.metrics.forget(*partition);
            }
        }
        let level = |(partition, at): (&Partition, &Checkpoint)| {
            let recorded_at = at.recorded_at.unwrap_or(now);
            // One that was level a moment ago was so then, however old its last event is.
            let before = partitions.get(partition).map(|known| known.current_at);
            let level = Level {
                sequence: at.sequence,
                current_at: before.map_or(recorded_at, |before| before.max(recorded_at)),
            };
            (*partition, level)
        };
        let begun: BTreeMap<_, _> = checkpoints.iter().map(level).collect();
        *partitions = begun;
    }

    pub fn folded(&self, run: &Run) {
        if let Some(level) = self.partitions().get_mut(&run.partition) {
            level.sequence = run.last;
            level.current_at = level.current_at.max(run.recorded_at);
        }
    }

    /// The log ended at `last` at that moment.
    fn measured(&self, partition: Partition, last: u64, now: Timestamp) {
        let mut partitions = self.partitions();
        let Some(level) = partitions.get_mut(&partition) else {
            return;
        };
        let missing = last.saturating_sub(level.sequence);
        if missing == 0 {
            level.current_at = now;
        }
        let behind_ms = now.unix_ms().saturating_sub(level.current_at.unix_ms());
        let behind = Duration::from_millis(u64::try_from(behind_ms).unwrap_or_default());
        self.metrics.lag(partition, missing, behind);
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<Partition, Level>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures for as long as it is polled. A broker that does not answer leaves the last numbers standing.
pub(crate) async fn measure(log: Log, progress: Progress) -> Infallible {
    loop {
        let owned: Vec<Partition> = progress.partitions().keys().copied().collect();
        for partition in owned {
            let deadline = Instant::now() + PATIENCE;
            if let Ok(last) = log.last_sequence(partition, deadline).await {
                progress.measured(partition, last, Timestamp::from(clock::now()));
            }
        }
        sleep(MEASURE_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_stands_still_falls_behind_and_one_that_is_level_does_not() {
        let partition = Partition::new(3).unwrap();
        let metrics = Metrics::default();
        let progress = Progress::new(metrics.clone());
        let at = |ms| Timestamp::from_unix_ms(ms);
        let checkpoint = Checkpoint {
            sequence: 10,
            recorded_at: Some(at(1_000)),
        };
        progress.begin(&BTreeMap::from([(partition, checkpoint)]));
        // Level, however long ago the last event was.
        progress.measured(partition, 10, at(60_000));
        assert_eq!(metrics.lag_events(partition), 0);
        // Seven events came after that.
        progress.measured(partition, 17, at(64_000));
        assert_eq!(metrics.lag_events(partition), 7);
        let behind = progress.partitions()[&partition].current_at;
        assert_eq!(behind, at(60_000), "behind since it was last level");
        // Another session, because another partition was halted, say.
        progress.begin(&BTreeMap::from([(partition, checkpoint)]));
        let behind = progress.partitions()[&partition].current_at;
        assert_eq!(behind, at(60_000), "still behind since then");
        let run = Run {
            partition,
            first: 11,
            last: 17,
            recorded_at: at(63_000),
        };
        progress.folded(&run);
        progress.measured(partition, 17, at(65_000));
        assert_eq!(metrics.lag_events(partition), 0);
    }
}
