//! What following live counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transport {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct About {
    about: &'static str,
}

/// The metrics of following live; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    connections: Family<Transport, Gauge>,
    subscriptions: Family<About, Gauge>,
    refused: Counter,
    resyncs: Counter,
    updates: Counter,
}

impl Metrics {
    /// Adds them to a registry; once per process.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "live_connections",
            "Open connections that follow live, by transport",
            self.connections.clone(),
        );
        registry.register(
            "live_subscriptions",
            "Subscriptions that are followed, by what they are about",
            self.subscriptions.clone(),
        );
        registry.register(
            "live_refused",
            "Connections refused because there were too many",
            self.refused.clone(),
        );
        registry.register(
            "live_resyncs",
            "Subscriptions ended because they did not take what there was",
            self.resyncs.clone(),
        );
        registry.register(
            "live_updates",
            "Updates given to subscriptions",
            self.updates.clone(),
        );
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }
    pub(super) fn overtaken(&self, subscriptions: usize) {
        if let Ok(more @ 1..) = u64::try_from(subscriptions) {
            self.resyncs.inc_by(more);
        }
    }
    pub(super) fn updated(&self) {
        self.updates.inc();
    }
    /// Counts one connection until it is dropped.
    pub(super) fn connection(&self, transport: &'static str) -> Open {
        Open::new(
            self.connections
                .get_or_create_owned(&Transport { transport }),
        )
    }
    /// Counts one subscription until it is dropped.
    pub(super) fn subscription(&self, about: &'static str) -> Open {
        Open::new(self.subscriptions.get_or_create_owned(&About { about }))
    }
}

/// One that is open.
#[derive(Debug)]
pub(super) struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
