//! What commands cost and how they end.

use std::time::Duration;

use chat4all_domain::{Aggregate, Conversation};
use chat4all_nats::execute::{Error, Executed};
use chat4all_nats::follower::Follower;
use chat4all_service::metrics::{Metrics, seconds};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    command: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Command {
    command: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    partition: String,
}

/// Up to where this process knows who is in which conversation, asked when somebody looks. What another process appended
/// after that is not known here yet.
#[derive(Debug)]
pub(crate) struct MembershipSeen(Follower<Conversation>);

impl MembershipSeen {
    /// Registers it; once per process.
    pub(crate) fn register(metrics: &Metrics, follower: Follower<Conversation>) {
        metrics.register(|registry| registry.register_collector(Box::new(Self(follower))));
    }
}

impl Collector for MembershipSeen {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut seen = encoder.encode_descriptor(
            "membership_seen_sequence",
            "Last event of a conversation that this process has seen, by partition",
            None,
            MetricType::Gauge,
        )?;
        for position in self.0.all_seen() {
            let sequence = i64::try_from(position.sequence).unwrap_or(i64::MAX);
            let partition = position.partition.to_string();
            ConstGauge::new(sequence).encode(seen.encode_family(&Place { partition })?)?;
        }
        Ok(())
    }
}

/// The numbers of commands; a cheap handle.
#[derive(Clone, Debug)]
pub struct CommandMetrics {
    ended: Family<Ended, Counter>,
    appended: Family<Command, Histogram, fn() -> Histogram>,
}

impl CommandMetrics {
    /// Registers them; once per process.
    pub fn register(metrics: &Metrics) -> Self {
        let this = Self {
            ended: Family::default(),
            appended: Family::new_with_constructor(seconds),
        };
        metrics.register(|registry| {
            registry.register(
                "commands",
                "Commands carried out, by command and outcome (appended, unchanged, or why not)",
                this.ended.clone(),
            );
            registry.register_with_unit(
                "command_append_duration",
                "Time from handing a command to the log's queue until its append was acknowledged",
                Unit::Seconds,
                this.appended.clone(),
            );
        });
        this
    }

    pub(crate) fn ended<A: Aggregate>(
        &self,
        command: &'static str,
        result: &Result<Executed<A>, Error<A::Error>>,
        elapsed: Duration,
    ) {
        let ended = Outcome::of(result);
        let outcome = ended.as_str();
        self.ended.get_or_create(&Ended { command, outcome }).inc();
        if ended == Outcome::Appended {
            self.appended
                .get_or_create(&Command { command })
                .observe(elapsed.as_secs_f64());
        }
    }
}

/// How a command ended, as the label `outcome` of `commands` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its events are in the log.
    Appended,
    /// There was nothing to do.
    Unchanged,
    /// The domain refused it.
    Rejected,
    /// Others were faster, again and again.
    Conflict,
    /// The log has no room.
    Full,
    /// More than fits into one envelope.
    TooLarge,
    /// The log is out of reach.
    Unavailable,
    /// No answer in time: it may have been stored.
    Unknown,
    /// The aggregate's history cannot be read.
    Broken,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Appended,
        Self::Unchanged,
        Self::Rejected,
        Self::Conflict,
        Self::Full,
        Self::TooLarge,
        Self::Unavailable,
        Self::Unknown,
        Self::Broken,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Appended => "appended",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
            Self::Conflict => "conflict",
            Self::Full => "full",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
        }
    }

    fn of<A: Aggregate>(result: &Result<Executed<A>, Error<A::Error>>) -> Self {
        match result {
            Ok(executed) if executed.events.is_empty() => Self::Unchanged,
            Ok(_) => Self::Appended,
            Err(Error::Rejected(_)) => Self::Rejected,
            Err(Error::Conflict) => Self::Conflict,
            Err(Error::Full) => Self::Full,
            Err(Error::TooLarge { .. }) => Self::TooLarge,
            Err(Error::Unavailable) => Self::Unavailable,
            Err(Error::Unknown) => Self::Unknown,
            Err(Error::Broken(_)) => Self::Broken,
        }
    }
}
