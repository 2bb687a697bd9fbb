//! What became of appends that were not simply acknowledged, as a metric.

use chat4all_nats::Log;
use chat4all_nats::resolved::{Answer, Found};
use chat4all_service::metrics::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    answer: &'static str,
    found: &'static str,
}

/// Registers the counts of this log; once per process.
pub fn register(metrics: &Metrics, log: &Log) {
    let resolved = Resolved(log.clone());
    metrics.register(|registry| registry.register_collector(Box::new(resolved)));
}

/// Asked when somebody looks: the log counts.
#[derive(Debug)]
struct Resolved(Log);

impl Collector for Resolved {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut resolved = encoder.encode_descriptor(
            "appends_resolved",
            "Appends without a simple acknowledgement, by the broker's answer and by what its leader then showed; \
             found=\"another\" is a conflict",
            None,
            MetricType::Counter,
        )?;
        for answer in Answer::ALL {
            for found in Found::ALL {
                let labels = Labels {
                    answer: answer.name(),
                    found: found.name(),
                };
                let count = ConstCounter::new(self.0.resolved().count(answer, found));
                count.encode(resolved.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
