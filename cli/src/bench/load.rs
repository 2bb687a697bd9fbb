//! Load: closed loops (so many at once, each begins when its last has ended) and open ones (so many a second, whatever
//! becomes of them).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long the last requests of an open loop may take after the load has ended.
const DRAIN: Duration = Duration::from_secs(30);

/// One thing that is done again and again.
pub(super) trait Operation: Send + Sync + 'static {
    /// Does it once. `n` is different each time; `meant` is when it was to begin.
    fn once(&self, n: u64, meant: Instant) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What a run gave.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Of each that succeeded within the measured time, in microseconds, sorted.
    latencies_us: Vec<u32>,
    /// The measured time.
    time: Duration,
}

impl Run {
    /// Of latencies in microseconds, in any order.
    pub fn new(mut latencies_us: Vec<u32>, time: Duration) -> Self {
        latencies_us.sort_unstable();
        Self { latencies_us, time }
    }

    /// Successes per second.
    pub fn rate(&self) -> f64 {
        self.latencies_us.len() as f64 / self.time.as_secs_f64()
    }

    /// The latency in milliseconds that this share of all was not above.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies_us
            .get(at)
            .map_or(f64::NAN, |us| f64::from(*us) / 1e3)
    }
}

/// Measures `operation` with `in_flight` at a time. The first failure ends it.
///
/// # Errors
/// What the operation said.
pub(super) async fn closed(
    operation: Arc<impl Operation>,
    in_flight: usize,
    (warm_up, time): (Duration, Duration),
) -> anyhow::Result<Run> {
    let next = Arc::new(AtomicU64::new(0));
    let from = Instant::now() + warm_up;
    let until = from + time;
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (operation, next) = (Arc::clone(&operation), Arc::clone(&next));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let begun = Instant::now();
                if begun >= until {
                    return Ok(latencies);
                }
                let n = next.fetch_add(1, Ordering::Relaxed);
                operation.once(n, begun).await?;
                let ended = Instant::now();
                if ended >= from && ended < until {
                    latencies.push(micros(ended - begun));
                }
            }
        });
    }
    let mut all = Vec::new();
    while let Some(worker) = workers.join_next().await {
        let latencies: anyhow::Result<Vec<u32>> = worker.context("a worker panicked")?;
        all.extend(latencies?);
    }
    Ok(Run::new(all, time))
}

/// Measures `operation` begun `per_second` times a second, each from the moment at which it was meant to begin.
///
/// # Errors
/// What the operation said; or not everything had ended half a minute after the last was begun.
pub(super) async fn open(
    operation: Arc<impl Operation>,
    per_second: f64,
    (warm_up, time): (Duration, Duration),
) -> anyhow::Result<Run> {
    let total = (per_second * (warm_up + time).as_secs_f64()) as u64;
    let (begin, mut begins) = mpsc::unbounded_channel();
    // A thread of its own: the runtime's timers have a resolution of a millisecond, and wait for their turn.
    let from = Instant::now() + warm_up;
    let start = Instant::now();
    std::thread::spawn(move || {
        for n in 0..total {
            let meant = start + Duration::from_secs_f64(n as f64 / per_second);
            std::thread::sleep(meant.saturating_duration_since(Instant::now()));
            if begin.send((n, meant)).is_err() {
                return;
            }
        }
    });
    let mut all = JoinSet::new();
    while let Some((n, meant)) = begins.recv().await {
        let operation = Arc::clone(&operation);
        all.spawn(async move {
            operation.once(n, meant).await?;
            anyhow::Ok((meant >= from).then(|| micros(meant.elapsed())))
        });
    }
    let collect = async {
        let mut latencies = Vec::new();
        while let Some(one) = all.join_next().await {
            latencies.extend(one.context("an operation panicked")??);
        }
        anyhow::Ok(latencies)
    };
    let latencies = tokio::time::timeout(DRAIN, collect)
        .await
        .context("the load was more than could be done: not everything ended in time")??;
    Ok(Run::new(latencies, time))
}

pub(super) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_latencies() {
        let run = Run::new(
            (1..=100).rev().map(|ms| ms * 1_000).collect(),
            Duration::from_secs(2),
        );
        assert_eq!(run.rate(), 50.0);
        assert_eq!(run.percentile_ms(0.0), 1.0);
        assert_eq!(run.percentile_ms(0.5), 51.0);
        assert_eq!(run.percentile_ms(1.0), 100.0);
        assert!(Run::default().percentile_ms(0.5).is_nan());
    }

    struct Sleep;
    impl Operation for Sleep {
        async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
            anyhow::ensure!(n < 1_000, "too many");
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_open_loop_begins_as_often_as_it_says_however_long_each_takes() {
        let times = (Duration::from_millis(100), Duration::from_millis(500));
        let run = open(Arc::new(Sleep), 100.0, times).await.unwrap();
        assert_eq!(run.latencies_us.len(), 50);
        assert!(run.percentile_ms(0.0) >= 20.0);
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_has_waited_since_the_intended_beginning() {
        // One processor that each needs by itself for longer than there is until the next is meant to begin.
        struct Blocks;
        impl Operation for Blocks {
            async fn once(&self, _: u64, _: Instant) -> anyhow::Result<()> {
                std::thread::sleep(Duration::from_millis(20));
                Ok(())
            }
        }
        let times = (Duration::ZERO, Duration::from_millis(200));
        let run = open(Arc::new(Blocks), 100.0, times).await.unwrap();
        assert_eq!(run.latencies_us.len(), 20);
        assert!(run.percentile_ms(1.0) >= 200.0, "{:?}", run.latencies_us);
    }

    #[tokio::test]
    async fn a_failure_ends_a_closed_loop_and_is_told() {
        struct Fails;
        impl Operation for Fails {
            async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
                anyhow::ensure!(n < 3, "the fourth fails");
                Ok(())
            }
        }
        let times = (Duration::ZERO, Duration::from_secs(60));
        let error = closed(Arc::new(Fails), 2, times).await.unwrap_err();
        assert_eq!(error.to_string(), "the fourth fails");
    }
}
