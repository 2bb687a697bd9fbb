//! What alerts rest on besides the parts' own metrics: readiness, check by check, and the room that is left on the log.

use std::convert::Infallible;
use std::time::Duration;

use chat4all_nats::Log;
use chat4all_service::Shutdown;
use chat4all_service::health::Checks;
use chat4all_service::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

/// How often the checks are looked at for the metric, between scrapes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCheck {
    check: &'static str,
}

/// Keeps `check_green` as `/readyz` would answer, until the role stops. Checks of which only a part of the answers rests are
/// left out: nobody is to be woken by them.
pub fn keep_readiness(metrics: &Metrics, checks: &Checks, shutdown: &Shutdown) {
    let green = Family::<ByCheck, Gauge>::default();
    metrics.register(|registry| {
        registry.register(
            "check_green",
            "1 for a check of /readyz that is green, 0 for one that is red, by check",
            green.clone(),
        );
    });
    let (checks, stop) = (checks.clone(), shutdown.soft().clone());
    shutdown.spawn("readiness", async move {
        let looking = async {
            loop {
                for (check, outcome) in checks.report().await.needed {
                    let value = i64::from(outcome.is_ok());
                    green.get_or_create(&ByCheck { check }).set(value);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(looking).await;
        Ok::<_, Infallible>(())
    });
}

/// Shows how full the log is, in a process that keeps asking the broker for it.
pub fn show_fullness(metrics: &Metrics, log: &Log) {
    let fullness = Box::new(Fullness(log.clone()));
    metrics.register(|registry| registry.register_collector(fullness));
}

#[derive(Debug)]
struct Fullness(Log);

impl Collector for Fullness {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let percent = self.0.fullness().fullest_percent();
        let ratio = f64::from(u32::try_from(percent).unwrap_or(u32::MAX)) / 100.0;
        let encoder = encoder.encode_descriptor(
            "log_fullness_ratio",
            "What the fullest partition holds of what it may hold; from 0.95 on nothing new is accepted",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(ratio).encode(encoder)
    }
}
