//! One account's gate: how many calls at a time, how many per second, and whether any at all.
//!
//! Concurrency and rate are split among workers by the partitions they own. A pause (the provider says: too fast) and a hold
//! (somebody must repair the account) stand in the bucket `CHANNEL_STATE`, so that every worker knows what one has learnt.
//! A held account is tried with one message a minute, all workers together; the first that passes opens the gate for all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat4all_domain::Timestamp;
use chat4all_domain::delivery::Reason;
use chat4all_service::Chain;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bucket::{self, Bucket};
use crate::clock;
use crate::metrics::AccountMetrics;

/// The longest pause when the provider names none.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Calls that may go out at once after a silence, as a share of a second's worth.
const BURST_S: f64 = 0.1;

/// What stands in the bucket about an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The provider wants fewer calls: none before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// Somebody must repair it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// Somebody must repair the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: Reason,
    /// The provider's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it is tried next.
    pub probe_at: Timestamp,
}

/// A state, and the revision of its entry.
#[derive(Clone, Debug, Default)]
struct Known {
    state: State,
    revision: u64,
}

/// What the state means now.
enum Meaning {
    Open,
    Wait(Timestamp),
    Probe,
}

impl State {
    fn meaning(&self, now: Timestamp) -> Meaning {
        match (&self.held, self.paused_until) {
            (Some(held), _) if held.probe_at > now => Meaning::Wait(held.probe_at),
            (Some(_), _) => Meaning::Probe,
            (None, Some(until)) if until > now => Meaning::Wait(until),
            (None, Some(_) | None) => Meaning::Open,
        }
    }
}

/// One account's gate in this process.
pub struct Gate {
    /// `whatsapp.<account>`: names it in log lines, and its entry in the bucket.
    key: String,
    bucket: Bucket,
    probe_every: Duration,
    known: watch::Sender<Known>,
    permits: Arc<Semaphore>,
    limits: Mutex<Limits>,
    concurrency: usize,
    rate_per_s: u64,
    metrics: AccountMetrics,
}

/// What this process may do, of what the account may do.
struct Limits {
    permits: usize,
    /// Permits to be taken away as they come back.
    debt: usize,
    /// Between two calls.
    interval: Duration,
    burst: Duration,
    /// When the next call would be due at an even pace.
    due: Instant,
    /// Pauses in a row.
    pauses: i32,
}

/// Leave to make one call. Dropping it lets the next one in.
pub struct Pass {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.metrics.in_flight.dec();
        let mut limits = self.gate.limits();
        if limits.debt > 0
            && let Some(permit) = self.permit.take()
        {
            limits.debt -= 1;
            permit.forget();
        }
    }
}

impl Gate {
    /// A gate that lets nobody in before [`Gate::share`].
    pub fn new(
        key: String,
        bucket: Bucket,
        (concurrency, rate_per_s): (usize, u64),
        probe_every: Duration,
        metrics: AccountMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            bucket,
            probe_every,
            known: watch::Sender::default(),
            permits: Arc::new(Semaphore::new(0)),
            limits: Mutex::new(Limits {
                permits: 0,
                debt: 0,
                interval: Duration::from_secs(1),
                burst: Duration::ZERO,
                due: Instant::now(),
                pauses: 0,
            }),
            concurrency,
            rate_per_s,
            metrics,
        })
    }

    /// This process owns `owned` of `all` partitions: that is its share, at least one call at a time.
    pub fn share(&self, owned: usize, all: usize) {
        let all = all.max(1);
        let permits = match owned {
            0 => 0,
            _ => (self.concurrency * owned / all).max(1),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate of at most 100,000 per second"
        )]
        let rate = self.rate_per_s as f64 * owned.max(1) as f64 / all as f64;
        let mut limits = self.limits();
        limits.interval = Duration::from_secs_f64(1.0 / rate);
        limits.burst = Duration::from_secs_f64(BURST_S);
        if permits >= limits.permits {
            let more = permits - limits.permits;
            let paid = more.min(limits.debt);
            limits.debt -= paid;
            self.permits.add_permits(more - paid);
        } else {
            let fewer = limits.permits - permits;
            limits.debt += fewer - self.permits.forget_permits(fewer);
        }
        limits.permits = permits;
    }

    /// Waits until a call may be made; `None` when `stop` comes first.
    pub async fn enter(self: &Arc<Self>, stop: &CancellationToken) -> Option<Pass> {
        self.metrics.waiting.inc();
        let entered = stop.run_until_cancelled(self.wait_for_turn()).await;
        self.metrics.waiting.dec();
        let permit = entered?;
        self.metrics.in_flight.inc();
        Some(Pass {
            gate: Arc::clone(self),
            permit: Some(permit),
        })
    }

    /// First one of the places, then the account's state: however many wait, only as many as have a place look at it.
    async fn wait_for_turn(&self) -> OwnedSemaphorePermit {
        let permits = Arc::clone(&self.permits);
        let permit = permits
            .acquire_owned()
            .await
            .expect("this semaphore is never closed");
        let mut changes = self.known.subscribe();
        loop {
            let meaning = changes.borrow_and_update().state.meaning(clock::now());
            match meaning {
                Meaning::Open => {
                    tokio::time::sleep_until(self.slot()).await;
                    if matches!(
                        self.known.borrow().state.meaning(clock::now()),
                        Meaning::Open
                    ) {
                        return permit;
                    }
                }
                Meaning::Wait(until) => {
                    tokio::select! {
                        () = clock::sleep_until(until) => {}
                        _ = changes.changed() => {}
                    }
                }
                Meaning::Probe => {
                    if self.claim_probe().await {
                        return permit;
                    }
                }
            }
        }
    }

    /// When the next call may go out, and takes that place.
    fn slot(&self) -> Instant {
        let mut limits = self.limits();
        let now = Instant::now();
        // An even pace, with a little credit for silence.
        let earliest = now.checked_sub(limits.burst).unwrap_or(now);
        let due = limits.due.max(earliest);
        limits.due = due + limits.interval;
        due
    }

    /// The one that may try a held account now. Within the process the first to see that it is time, among processes the
    /// first to write the next time into the bucket.
    async fn claim_probe(&self) -> bool {
        let now = clock::now();
        let mut claimed = None;
        self.known.send_if_modified(|known| {
            if let Some(held) = &mut known.state.held
                && held.probe_at <= now
            {
                held.probe_at = now.plus(self.probe_every);
                claimed = Some(known.clone());
            }
            claimed.is_some()
        });
        let Some(known) = claimed else {
            return false;
        };
        info!(account = %self.key, "trying the held account `{}` with one message", self.key);
        self.write(&known.state, known.revision).await
    }

    /// The provider wants fewer calls. Gives the moment from which on to try again.
    pub async fn pause(&self, retry_after: Option<Duration>) -> Timestamp {
        let now = clock::now();
        let mut wanted = None;
        let mut until = now;
        self.known.send_if_modified(|known| {
            let already = known.state.paused_until.filter(|until| *until > now);
            let mut limits = self.limits();
            let wait = match (already, retry_after) {
                // One of the calls that were out when the pause began; it knows no better.
                (Some(already), None) => {
                    until = already;
                    return false;
                }
                (_, Some(asked)) => asked,
                (None, None) => LONGEST_PAUSE.min(
                    Duration::from_secs(1) * 2_u32.saturating_pow(limits.pauses.unsigned_abs()),
                ),
            };
            if already.is_none() {
                limits.pauses = limits.pauses.saturating_add(1).min(16);
            }
            until = already.map_or(now.plus(wait), |already| already.max(now.plus(wait)));
            if already == Some(until) {
                return false;
            }
            known.state.paused_until = Some(until);
            wanted = Some(known.clone());
            true
        });
        if let Some(known) = wanted {
            warn!(account = %self.key, %until, "the provider throttles account `{}`", self.key);
            self.write(&known.state, known.revision).await;
        }
        until
    }

    /// Somebody must repair the account. Nothing fails; it is tried again from time to time.
    pub async fn hold(&self, reason: Reason, code: Option<String>) {
        let now = clock::now();
        let mut wanted = None;
        self.known.send_if_modified(|known| {
            if known.state.held.is_some() {
                return false;
            }
            known.state.held = Some(Held {
                since: now,
                reason,
                code: code.clone(),
                probe_at: now.plus(self.probe_every),
            });
            wanted = Some(known.clone());
            true
        });
        self.metrics.held.set(1);
        if let Some(known) = wanted {
            error!(
                account = %self.key, ?reason, code = code.as_deref(),
                "account `{}` needs its operator: its queue is held, nothing fails meanwhile", self.key
            );
            self.write(&known.state, known.revision).await;
        }
    }

    /// A call went through: whatever held the account is over.
    pub async fn passed(&self) {
        self.limits().pauses = 0;
        let mut was = None;
        self.known.send_if_modified(|known| {
            if known.state.held.take().is_some() {
                was = Some(known.clone());
            }
            was.is_some()
        });
        if let Some(known) = was {
            self.metrics.held.set(0);
            info!(account = %self.key, "account `{}` works again: its queue drains", self.key);
            self.write(&known.state, known.revision).await;
        }
    }

    /// What another worker wrote, or what was there at the start. Nothing, where an operator deleted the entry: the account
    /// is open again.
    pub fn learn(&self, bytes: &[u8], revision: u64) {
        let text = if bytes.is_empty() { b"{}" } else { bytes };
        match serde_json::from_slice::<State>(text) {
            Ok(state) => {
                self.known.send_if_modified(|known| {
                    let news = revision > known.revision;
                    if news {
                        self.metrics.held.set(i64::from(state.held.is_some()));
                        *known = Known { state, revision };
                    }
                    news
                });
            }
            Err(error) => {
                error!(account = %self.key, error = %Chain(&error), "the state of account `{}` cannot be read", self.key);
            }
        }
    }

    /// Tells the others. When another one was faster, what they wrote holds here too, and this says `false`.
    async fn write(&self, state: &State, revision: u64) -> bool {
        let bytes = serde_json::to_vec(state).expect("a struct of times and words");
        match self.bucket.update(&self.key, bytes.into(), revision).await {
            Ok(revision) => {
                self.known.send_if_modified(|known| {
                    known.revision = known.revision.max(revision);
                    false
                });
                true
            }
            Err(bucket::Error::Outdated { .. }) => {
                if let Ok(Some(value)) = self.bucket.last(&self.key).await {
                    self.learn(&value.bytes, value.revision);
                }
                false
            }
            // The others will learn it themselves.
            Err(error @ bucket::Error::Away { .. }) => {
                warn!(account = %self.key, error = %Chain(&error), "could not tell the other workers about account `{}`", self.key);
                true
            }
        }
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
