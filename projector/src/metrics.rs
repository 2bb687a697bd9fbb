//! What a projector counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_service::metrics::seconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds for the size of a batch, in events.
const EVENTS: [f64; 10] = [
    1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    partition: String,
}

/// The metrics of a projector; a cheap handle.
#[derive(Clone, Debug)]
pub struct Metrics {
    lag_events: Family<Labels, Gauge>,
    lag_seconds: Family<Labels, Gauge<f64, AtomicU64>>,
    batch_events: Histogram,
    batch_duration: Histogram,
    events: Counter,
    dead_letters: Family<Labels, Counter>,
    halted: Family<Labels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            lag_events: Family::default(),
            lag_seconds: Family::default(),
            batch_events: Histogram::new(EVENTS),
            batch_duration: seconds(),
            events: Counter::default(),
            dead_letters: Family::default(),
            halted: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds them to a registry; once per process.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "projector_lag_events",
            "Events of the log that are not in the read models yet, by partition",
            self.lag_events.clone(),
        );
        registry.register_with_unit(
            "projector_lag",
            "For how long the read models have been behind the log, by partition",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        registry.register(
            "projector_batch_events",
            "Events folded in one transaction",
            self.batch_events.clone(),
        );
        registry.register_with_unit(
            "projector_batch_duration",
            "Time that one transaction took",
            Unit::Seconds,
            self.batch_duration.clone(),
        );
        registry.register("projector_events", "Events folded", self.events.clone());
        registry.register(
            "projector_dead_letters",
            "Events that could not be folded and were parked, by partition",
            self.dead_letters.clone(),
        );
        registry.register(
            "projector_halted",
            "1 for a partition that stands before an event that cannot be folded",
            self.halted.clone(),
        );
    }

    /// How many events of a partition were parked since the process started.
    pub fn dead_letters(&self, partition: Partition) -> u64 {
        self.dead_letters.get_or_create(&labels(partition)).get()
    }
    /// Events of the log that were not in the read models when it was last measured.
    pub fn lag_events(&self, partition: Partition) -> i64 {
        self.lag_events.get_or_create(&labels(partition)).get()
    }
    /// Whether the partition stands before an event that cannot be folded.
    pub fn is_halted(&self, partition: Partition) -> bool {
        self.halted.get_or_create(&labels(partition)).get() > 0
    }

    pub(crate) fn batch(&self, events: usize, took: Duration) {
        self.batch_events.observe(events as f64);
        self.batch_duration.observe(took.as_secs_f64());
        self.events.inc_by(events as u64);
    }
    pub(crate) fn parked(&self, partition: Partition) {
        self.dead_letters.get_or_create(&labels(partition)).inc();
    }
    pub(crate) fn halted(&self, partition: Partition) {
        self.halted.get_or_create(&labels(partition)).set(1);
    }
    /// The partition is somebody else's now, and whether it is halted is theirs to say.
    pub(crate) fn not_halted(&self, partition: Partition) {
        self.halted.get_or_create(&labels(partition)).set(0);
    }
    pub(crate) fn lag(&self, partition: Partition, events: u64, time: Duration) {
        let labels = labels(partition);
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.lag_events.get_or_create(&labels).set(events);
        self.lag_seconds
            .get_or_create(&labels)
            .set(time.as_secs_f64());
    }
    /// The partition is somebody else's now.
    pub(crate) fn forget(&self, partition: Partition) {
        self.lag_events.remove(&labels(partition));
        self.lag_seconds.remove(&labels(partition));
    }
}

fn labels(partition: Partition) -> Labels {
    Labels {
        partition: partition.to_string(),
    }
}
