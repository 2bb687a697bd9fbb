//! What bridges count.

use chat4all_domain::{AccountId, ChannelKind};
use chat4all_service::metrics::{Metrics as Registry, seconds};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAccount {
    channel: &'static str,
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    channel: &'static str,
    account: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    channel: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Parked {
    channel: &'static str,
    why: &'static str,
}

/// What bridges count; a cheap handle.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<ByAccount, Counter>,
    outcomes: Family<Outcome, Counter>,
    calls: Family<ByAccount, Histogram, fn() -> Histogram>,
    in_flight: Family<ByAccount, Gauge>,
    waiting: Family<ByAccount, Gauge>,
    held: Family<ByAccount, Gauge>,
    paused: Family<ByAccount, Gauge>,
    broken: Family<ByAccount, Gauge>,
    open: Family<ByKind, Gauge>,
    webhooks: Family<ByAccount, Counter>,
    inbound_lag: Family<ByKind, Gauge>,
    parked: Family<Parked, Counter>,
}

/// What is counted for one account.
#[derive(Clone, Debug)]
pub struct AccountMetrics {
    labels: ByAccount,
    metrics: Metrics,
    /// Calls under way.
    pub in_flight: Gauge,
    /// Lanes whose head waits for the account.
    pub waiting: Gauge,
    /// 1 while the account needs its operator.
    pub held: Gauge,
    /// 1 while an operator has stopped it.
    pub paused: Gauge,
    /// 1 while its circuit breaker is open.
    pub broken: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            outcomes: Family::default(),
            calls: Family::new_with_constructor(seconds),
            in_flight: Family::default(),
            waiting: Family::default(),
            held: Family::default(),
            paused: Family::default(),
            broken: Family::default(),
            open: Family::default(),
            webhooks: Family::default(),
            inbound_lag: Family::default(),
            parked: Family::default(),
        };
        let m = metrics.clone();
        registry.register(|r| {
            r.register("bridge_attempts", "Calls to providers", m.attempts);
            r.register(
                "bridge_outcomes",
                "How calls ended: SENT, or the class of the failure",
                m.outcomes,
            );
            r.register_with_unit(
                "bridge_call_duration",
                "Time until a provider answered",
                Unit::Seconds,
                m.calls,
            );
            r.register(
                "bridge_calls_in_flight",
                "Calls to providers under way",
                m.in_flight,
            );
            r.register(
                "bridge_lanes_waiting",
                "Lanes whose head waits for its account",
                m.waiting,
            );
            r.register(
                "bridge_account_held",
                "1 while an account needs its operator",
                m.held,
            );
            r.register(
                "bridge_account_paused",
                "1 while an operator has stopped an account",
                m.paused,
            );
            r.register(
                "bridge_account_broken",
                "1 while an account's circuit breaker is open",
                m.broken,
            );
            r.register(
                "bridge_deliveries_open",
                "Deliveries that are not handed over yet",
                m.open,
            );
            r.register("webhooks", "Webhook calls stored", m.webhooks);
            r.register(
                "inbound_lag",
                "Webhook calls stored and not dealt with yet",
                m.inbound_lag,
            );
            r.register("inbound_parked", "Inbound items put aside", m.parked);
        });
        metrics
    }

    /// What is counted for one account.
    pub fn account(&self, kind: ChannelKind, account: &AccountId) -> AccountMetrics {
        let labels = ByAccount {
            channel: kind.as_str(),
            account: account.to_string(),
        };
        AccountMetrics {
            in_flight: self.in_flight.get_or_create(&labels).clone(),
            waiting: self.waiting.get_or_create(&labels).clone(),
            held: self.held.get_or_create(&labels).clone(),
            paused: self.paused.get_or_create(&labels).clone(),
            broken: self.broken.get_or_create(&labels).clone(),
            labels,
            metrics: self.clone(),
        }
    }

    /// More or fewer deliveries are open.
    pub fn open_changed(&self, kind: ChannelKind, by: i64) {
        let channel = kind.as_str();
        self.open.get_or_create(&ByKind { channel }).inc_by(by);
    }
    /// A webhook call was stored.
    pub fn webhook(&self, kind: ChannelKind, account: &AccountId) {
        let labels = ByAccount {
            channel: kind.as_str(),
            account: account.to_string(),
        };
        self.webhooks.get_or_create(&labels).inc();
    }
    /// So many webhook calls wait.
    pub fn inbound_lag(&self, kind: ChannelKind, calls: u64) {
        let channel = kind.as_str();
        let calls = i64::try_from(calls).unwrap_or(i64::MAX);
        self.inbound_lag
            .get_or_create(&ByKind { channel })
            .set(calls);
    }
    /// An item was put aside.
    pub fn parked(&self, kind: ChannelKind, why: &'static str) {
        let channel = kind.as_str();
        self.parked.get_or_create(&Parked { channel, why }).inc();
    }
}

impl AccountMetrics {
    /// A call begins.
    pub fn attempt(&self) {
        self.metrics.attempts.get_or_create(&self.labels).inc();
    }
    /// A call ended like that, after so long.
    pub fn outcome(&self, outcome: &'static str, took: std::time::Duration) {
        let ByAccount { channel, account } = self.labels.clone();
        let labels = Outcome {
            channel,
            account,
            outcome,
        };
        self.metrics.outcomes.get_or_create(&labels).inc();
        self.metrics
            .calls
            .get_or_create(&self.labels)
            .observe(took.as_secs_f64());
    }
}
