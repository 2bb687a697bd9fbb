//! How full the log is. Accepting stops at 95 % of a stream's `max_bytes`, so that outcomes and receipts of what was
//! accepted before still fit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat4all_domain::Partition;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::Log;

/// From this share of `max_bytes` on, nothing new is accepted: in percent.
pub const ACCEPT_UP_TO_PERCENT: u64 = 95;
/// How often the broker is asked; in between, this process counts what it appends itself.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The last known size of each partition's stream.
#[derive(Debug)]
pub struct Fullness(Vec<Stream>);

#[derive(Debug)]
struct Stream {
    bytes: AtomicU64,
    /// 0: no limit.
    max_bytes: AtomicU64,
}

impl Fullness {
    pub(crate) fn new(streams: Vec<(u64, i64)>) -> Self {
        let stream = |(bytes, max): (u64, i64)| Stream {
            bytes: AtomicU64::new(bytes),
            max_bytes: AtomicU64::new(u64::try_from(max).unwrap_or(0)),
        };
        Self(streams.into_iter().map(stream).collect())
    }

    /// Whether something new may still be accepted there.
    pub fn accepts(&self, partition: Partition) -> bool {
        let stream = &self.0[usize::from(partition.number())];
        let max = stream.max_bytes.load(Ordering::Relaxed);
        max == 0 || stream.bytes.load(Ordering::Relaxed) < max / 100 * ACCEPT_UP_TO_PERCENT
    }

    /// The fullest partition's share of its limit, in percent; 0 without a limit.
    pub fn fullest_percent(&self) -> u64 {
        let percent = |stream: &Stream| {
            let max = stream.max_bytes.load(Ordering::Relaxed);
            let bytes = stream.bytes.load(Ordering::Relaxed);
            // Rounded as `accepts` does, so that both turn at the same byte.
            bytes.checked_div(max / 100).unwrap_or(0)
        };
        self.0.iter().map(percent).max().unwrap_or(0)
    }

    pub(crate) fn appended(&self, partition: Partition, bytes: usize) {
        self.0[usize::from(partition.number())]
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn measured(&self, partition: Partition, bytes: u64, max_bytes: i64) {
        let stream = &self.0[usize::from(partition.number())];
        stream.bytes.store(bytes, Ordering::Relaxed);
        stream
            .max_bytes
            .store(u64::try_from(max_bytes).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Keeps asking the broker until `stop`. Every process that accepts runs this once.
pub async fn keep_measuring(log: Log, stop: CancellationToken) {
    loop {
        measure(&log).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}

/// Asks the broker once, for every partition.
pub async fn measure(log: &Log) {
    for partition in log.partitions().all() {
        match log.stream(partition).get_info().await {
            Ok(info) => {
                let before = log.fullness().accepts(partition);
                log.fullness()
                    .measured(partition, info.state.bytes, info.config.max_bytes);
                let after = log.fullness().accepts(partition);
                if before && !after {
                    error!(
                        partition = %partition, bytes = info.state.bytes, max_bytes = info.config.max_bytes,
                        "partition {partition} is over {ACCEPT_UP_TO_PERCENT} % full: nothing new is accepted there \
                         until max_bytes is raised (`nats stream edit EVT-{partition} --max-bytes …`)"
                    );
                }
            }
            // What was known stays; the connection's own state is reported elsewhere.
            Err(error) => {
                warn!(partition = %partition, %error, "could not ask how full partition {partition} is")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_shown_turns_at_the_byte_at_which_nothing_new_is_accepted() {
        let partition = Partition::new(0).unwrap();
        let turns = (1_u64 << 20) / 100 * ACCEPT_UP_TO_PERCENT;
        for (bytes, accepts) in [(turns - 1, true), (turns, false)] {
            let fullness = Fullness::new(vec![(bytes, 1 << 20)]);
            assert_eq!(fullness.accepts(partition), accepts, "{bytes}");
            let below = fullness.fullest_percent() < ACCEPT_UP_TO_PERCENT;
            assert_eq!(below, accepts, "{bytes}");
        }
        assert_eq!(Fullness::new(vec![(7, 0)]).fullest_percent(), 0, "no limit");
    }
}
