//! How an account is doing: what every worker has to know before it calls, and an operator wants to see. Pure.
//!
//! One value per account in the bucket `CHANNEL_STATE`, under `<kind>.<account>`. Workers and operators change it by
//! compare-and-set and follow it, so that what one learns holds for all.

use std::time::Duration;

use chat4all_domain::Timestamp;
use chat4all_domain::delivery::Reason;
use serde::{Deserialize, Serialize};

/// What stands in the bucket about an account. Nothing set: it works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// An operator has stopped it: nothing goes out before an operator says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Decision>,
    /// An operator has let it go on, or asked for a try; the last one who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Decision>,
    /// Somebody must repair it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Its provider fails too often: the circuit breaker is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
    /// The provider wants fewer calls: none before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_until: Option<Timestamp>,
}

/// What an operator decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Since when it holds.
    pub since: Timestamp,
    /// Who decided it.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: String,
}

/// Somebody must repair the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// Why, by the last call that was refused so.
    pub reason: Reason,
    /// The provider's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When one message tries it next.
    pub probe_at: Timestamp,
}

/// The circuit breaker is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Since when.
    pub since: Timestamp,
    /// So many of the last calls had failed …
    pub failed: usize,
    /// … of so many.
    pub of: usize,
    /// When one message tries it next.
    pub probe_at: Timestamp,
}

/// What a state means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Call.
    Open,
    /// No calls before that moment.
    Wait(Timestamp),
    /// One call, whose end decides.
    Probe,
    /// No calls before somebody says so.
    Stopped,
}

/// How long things take that have no end of their own.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two tries of a held account.
    pub probe_every: Duration,
    /// How long a breaker stays open, and between two tries of one that is.
    pub open_for: Duration,
}

/// How a call went, as far as that says something about the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// The provider took the message.
    Sent,
    /// The provider works: it refused this message, or this recipient.
    Answered,
    /// It failed in passing, or nobody knows.
    Failing,
    /// The provider wants fewer calls, for that long; `asked`: it said how long.
    Throttled {
        /// For how long.
        wait: Duration,
        /// The provider named it.
        asked: bool,
    },
    /// The account needs its operator.
    Refused {
        /// Why.
        reason: Reason,
        /// The provider's error code.
        code: Option<String>,
    },
}

impl State {
    /// What it means at `now`.
    pub fn meaning(&self, now: Timestamp) -> Meaning {
        if self.paused.is_some() {
            return Meaning::Stopped;
        }
        let probes = [
            self.held.as_ref().map(|held| held.probe_at),
            self.broken.as_ref().map(|broken| broken.probe_at),
        ];
        let latest = probes.into_iter().chain([self.throttled_until]).flatten();
        match latest.max() {
            Some(moment) if moment > now => Meaning::Wait(moment),
            _ if self.held.is_some() || self.broken.is_some() => Meaning::Probe,
            Some(_) | None => Meaning::Open,
        }
    }

    /// Somebody tries it now, so nobody else does for a while. `false` when it is not the time.
    pub fn claim_probe(&mut self, now: Timestamp, timing: Timing) -> bool {
        if self.meaning(now) != Meaning::Probe {
            return false;
        }
        if let Some(held) = &mut self.held {
            held.probe_at = now.plus(timing.probe_every);
        }
        if let Some(broken) = &mut self.broken {
            broken.probe_at = now.plus(timing.open_for);
        }
        true
    }

    /// Whoever claimed the try at `claimed` does not make it: the next one does, at once. `false` when nothing was claimed, or
    /// somebody else has claimed it since.
    pub fn give_back_probe(&mut self, claimed: Timestamp, now: Timestamp, timing: Timing) -> bool {
        let held = self.held.as_mut().map(|held| &mut held.probe_at);
        let broken = self.broken.as_mut().map(|broken| &mut broken.probe_at);
        let mut given_back = false;
        for (probe_at, period) in [(held, timing.probe_every), (broken, timing.open_for)] {
            if let Some(probe_at) = probe_at.filter(|at| **at == claimed.plus(period)) {
                *probe_at = now.min(*probe_at);
                given_back = true;
            }
        }
        given_back
    }

    /// An operator stops it. `false` when one has already: that decision stays.
    pub fn pause(&mut self, decision: Decision) -> bool {
        if self.paused.is_some() {
            return false;
        }
        self.paused = Some(decision);
        true
    }

    /// An operator lets it go on, and has it tried now if something else holds it. What the provider asked for stays.
    /// `false` when nothing held it.
    pub fn resume(&mut self, decision: Decision) -> bool {
        let was_paused = self.paused.take().is_some();
        let sooner = self.probe_now(decision.since);
        if was_paused || sooner {
            self.resumed = Some(decision);
        }
        was_paused || sooner
    }

    /// What holds it is tried at once, not at its time. `false` when nothing holds it, or it was to be tried already.
    pub fn probe_now(&mut self, now: Timestamp) -> bool {
        let mut sooner = false;
        let held = self.held.as_mut().map(|held| &mut held.probe_at);
        let broken = self.broken.as_mut().map(|broken| &mut broken.probe_at);
        for probe_at in [held, broken].into_iter().flatten() {
            sooner |= *probe_at > now;
            *probe_at = now.min(*probe_at);
        }
        sooner
    }

    /// The breaker opens: `failed` of the last `of` calls did.
    pub fn trip(&mut self, now: Timestamp, (failed, of): (usize, usize), timing: Timing) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.broken = Some(Broken {
            since: now,
            failed,
            of,
            probe_at: now.plus(timing.open_for),
        });
        true
    }

    /// A call has ended; `probing` says that it was the one that tried. Calls that were out when the account was stopped
    /// know no better, so only the one that tried opens it. `false` when nothing changes.
    pub fn went(&mut self, went: &Went, probing: bool, now: Timestamp, timing: Timing) -> bool {
        let before = self.clone();
        match went {
            Went::Failing => {}
            Went::Sent if probing => (self.held, self.broken) = (None, None),
            Went::Answered if probing => {
                self.broken = None;
                // It may have been this message's fault alone: the next one tells.
                self.probe_now(now);
            }
            Went::Sent | Went::Answered => {}
            Went::Throttled { wait, asked } => {
                self.broken.take_if(|_| probing);
                let already = self.throttled_until.filter(|until| *until > now);
                // One of the calls that were out when the pause began knows no better.
                if already.is_none() || *asked {
                    self.throttled_until = already.max(Some(now.plus(*wait)));
                }
            }
            Went::Refused { reason, code } => {
                self.broken.take_if(|_| probing);
                let next = now.plus(timing.probe_every);
                let known = self.held.as_ref().map(|held| (held.since, held.probe_at));
                let (since, probe_at) = known.unwrap_or((now, next));
                let (reason, code) = (*reason, code.clone());
                self.held = Some(Held {
                    since,
                    reason,
                    code,
                    probe_at,
                });
            }
        }
        *self != before
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
