//! One account's gate: how many calls at a time, how many per second, and whether any at all.
//!
//! Concurrency and rate are split among workers by the partitions they own ([`share`]). What stops the account as a whole
//! stands in the bucket `CHANNEL_STATE` ([`State`]), so that every worker knows what one has learnt: an operator's pause, a
//! hold until somebody has repaired it, a breaker that opened ([`breaker`]), a provider that wants fewer calls. Held and
//! broken accounts are tried with one message at a time, all workers together; the first that passes opens the gate for all.

pub mod breaker;
pub mod pairs;
mod share;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chat4all_domain::{IdentityId, Timestamp};
use chat4all_service::Chain;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bucket::{self, Bucket};
use crate::clock;
use crate::metrics::AccountMetrics;
use crate::state::{Meaning, State, Timing, Went};

use breaker::{Breaker, Window};
use pairs::Pairs;
use share::Share;

/// The longest wait when the provider wants fewer calls and does not say for how long.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// A state, and the revision of its entry. Nobody calls before it was [read](Known::read).
#[derive(Clone, Debug, Default)]
struct Known {
    state: State,
    revision: u64,
    read: bool,
}

/// One account's gate in this process.
pub struct Gate {
    /// `whatsapp.<account>`: names it in log lines, and its entry in the bucket.
    key: String,
    bucket: Bucket,
    timing: Timing,
    breaker: Breaker,
    known: watch::Sender<Known>,
    share: Share,
    pairs: Pairs,
    lately: Mutex<Lately>,
    metrics: AccountMetrics,
}

/// How calls of this process went lately.
#[derive(Default)]
struct Lately {
    window: Window,
    /// How often in a row the provider wanted fewer.
    throttled: u32,
}

/// Leave to make one call. Dropping it lets the next one in; [`Pass::went`] also tells how the call went.
pub struct Pass {
    gate: Arc<Gate>,
    place: Option<OwnedSemaphorePermit>,
    /// It is the one that tries whether the account works again.
    probing: bool,
}

/// What waiting at a gate ended with.
pub enum Entered {
    /// Call.
    Pass(Pass),
    /// It is not worth sending any more.
    Expired,
    /// The worker stops.
    Stopped,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.metrics.in_flight.dec();
        if let Some(place) = self.place.take() {
            self.gate.share.left(place);
        }
    }
}

impl Pass {
    /// The call has ended like that: whoever waits knows before the next one is let in. Gives the moment before which the
    /// provider wants no calls, or now.
    pub async fn went(self, went: Went) -> Timestamp {
        let (gate, now) = (Arc::clone(&self.gate), clock::now());
        let tripped = gate.count(&went);
        let probing = self.probing;
        let fold = |state: &mut State| {
            let changed = state.went(&went, probing, now, gate.timing);
            let tripped = tripped.is_some_and(|calls| state.trip(now, calls, gate.timing));
            changed || tripped
        };
        let news = gate.fold(fold);
        drop(self);
        if let Some(news) = news {
            gate.tell(news, fold).await;
        }
        let until = gate.known.borrow().state.throttled_until;
        until.map_or(now, |until| until.max(now))
    }

    /// No call was made: if this was the one that tries, another one does.
    pub async fn unused(self) {
        let (gate, probing) = (Arc::clone(&self.gate), self.probing);
        drop(self);
        if probing {
            gate.change(|state| state.probe_now(clock::now())).await;
        }
    }
}

impl Gate {
    /// A gate that lets nobody in before [`Gate::share`] and [`Gate::learn`].
    pub fn new(
        key: String,
        bucket: Bucket,
        (concurrency, rate_per_s): (usize, u64),
        (probe_every, breaker): (Duration, Breaker),
        metrics: AccountMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            bucket,
            timing: Timing {
                probe_every,
                open_for: breaker.open_for,
            },
            breaker,
            known: watch::Sender::default(),
            share: Share::new(concurrency, rate_per_s),
            pairs: Pairs::default(),
            lately: Mutex::default(),
            metrics,
        })
    }

    /// This process owns `owned` of `all` partitions.
    pub fn share(&self, owned: usize, all: usize) {
        self.share.of(owned, all);
    }

    /// Waits until a call may be made, as long as it is worth it.
    pub async fn enter(self: &Arc<Self>, stop: &CancellationToken, expires: Timestamp) -> Entered {
        self.metrics.waiting.inc();
        let mut claimed = None;
        let entered = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = clock::sleep_until(expires) => Some(None),
            turn = self.turn(&mut claimed) => Some(Some(turn)),
        };
        self.metrics.waiting.dec();
        if let (None | Some(None), Some(claimed)) = (&entered, claimed) {
            // It was about to be the one that tries: somebody else does, and not only after the next period. With the broker
            // away in just this moment nobody hears of it, and it is that period after all.
            let back =
                |state: &mut State| state.give_back_probe(claimed, clock::now(), self.timing);
            self.change(back).await;
        }
        match entered {
            None => Entered::Stopped,
            Some(None) => Entered::Expired,
            Some(Some((place, probing))) => {
                self.metrics.in_flight.inc();
                Entered::Pass(Pass {
                    gate: Arc::clone(self),
                    place: Some(place),
                    probing,
                })
            }
        }
    }

    /// First a place, then the account's state: however many wait, only as many as have a place look at it. `claimed`: when it
    /// set out to be the one that tries, for who stops waiting in that moment.
    async fn turn(&self, claimed: &mut Option<Timestamp>) -> (OwnedSemaphorePermit, bool) {
        let place = self.share.place().await;
        let mut changes = self.known.subscribe();
        loop {
            let meaning = changes.borrow_and_update().meaning();
            match meaning {
                Meaning::Open => {
                    let due = self.share.slot();
                    // A moment that has passed is no reason to wait for the clock's next tick.
                    if due > Instant::now() {
                        tokio::time::sleep_until(due).await;
                    }
                    if self.known.borrow().meaning() == Meaning::Open {
                        return (place, false);
                    }
                }
                Meaning::Probe => {
                    let at = clock::now();
                    *claimed = Some(at);
                    if self
                        .change(|state| state.claim_probe(at, self.timing))
                        .await
                    {
                        info!(account = %self.key, "trying account `{}` with one message", self.key);
                        return (place, true);
                    }
                }
                Meaning::Wait(until) => {
                    tokio::select! {
                        () = clock::sleep_until(until) => {}
                        _ = changes.changed() => {}
                    }
                }
                Meaning::Stopped => {
                    // It ends only with the gate, and whoever waits holds that.
                    let _ = changes.changed().await;
                }
            }
        }
    }

    /// What another worker or an operator wrote, or what was there at the start; `None`: there is nothing.
    pub fn learn(&self, entry: Option<(&[u8], u64)>) {
        self.take(entry, false);
    }

    /// As [`Gate::learn`]; `anew`: also what is known already, so that a change which somebody else overtook is made over what
    /// stands there, and not found to be made because it stands only here.
    fn take(&self, entry: Option<(&[u8], u64)>, anew: bool) {
        // An entry without a value: an operator deleted it.
        let (bytes, revision) = match entry {
            Some((bytes, revision)) if !bytes.is_empty() => (bytes, revision),
            Some((_, revision)) => (&b"{}"[..], revision),
            None => (&b"{}"[..], 0),
        };
        match serde_json::from_slice::<State>(bytes) {
            Ok(state) => {
                self.known.send_if_modified(|known| {
                    let news = revision > known.revision
                        || anew && revision == known.revision
                        || !known.read;
                    if news {
                        self.say(&known.state, &state);
                        let read = true;
                        *known = Known {
                            state,
                            revision,
                            read,
                        };
                    }
                    news
                });
            }
            Err(error) => {
                error!(account = %self.key, error = %Chain(&error), "the state of account `{}` cannot be read", self.key);
            }
        }
    }

    /// Changes the state here at once, and then for all; anew over what another worker wrote meanwhile. `false` when there
    /// was nothing to change.
    async fn change(&self, fold: impl Fn(&mut State) -> bool) -> bool {
        match self.fold(&fold) {
            Some(news) => self.tell(news, fold).await,
            None => false,
        }
    }

    fn fold(&self, fold: impl Fn(&mut State) -> bool) -> Option<Known> {
        let mut news = None;
        self.known.send_if_modified(|known| {
            let before = known.state.clone();
            if fold(&mut known.state) {
                self.say(&before, &known.state);
                news = Some(known.clone());
            }
            news.is_some()
        });
        news
    }

    async fn tell(&self, mut news: Known, fold: impl Fn(&mut State) -> bool) -> bool {
        loop {
            let bytes = serde_json::to_vec(&news.state).expect("a struct of times and words");
            let told = self.bucket.update(&self.key, bytes.into(), news.revision);
            match told.await {
                Ok(revision) => {
                    self.known.send_if_modified(|known| {
                        let newest = revision > known.revision;
                        if newest {
                            // What was folded meanwhile is told over this one, and folded again.
                            known.state = news.state.clone();
                            known.revision = revision;
                        }
                        newest
                    });
                    return true;
                }
                Err(bucket::Error::Outdated { .. }) => match self.bucket.last(&self.key).await {
                    Ok(value) => {
                        let value = value.as_ref();
                        self.take(value.map(|value| (&value.bytes[..], value.revision)), true);
                        match self.fold(&fold) {
                            Some(more) => news = more,
                            None => return false,
                        }
                    }
                    Err(error) => return self.untold(&error),
                },
                Err(error @ bucket::Error::Away { .. }) => return self.untold(&error),
            }
        }
    }

    /// The others will learn it themselves.
    fn untold(&self, error: &bucket::Error) -> bool {
        warn!(account = %self.key, error = %Chain(error), "could not tell the other workers about account `{}`", self.key);
        true
    }

    /// Counts a call that ended; the numbers when that opens the breaker.
    fn count(&self, went: &Went) -> Option<(usize, usize)> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = match went {
            Went::Throttled { .. } => {
                // Calls that were out when the pause began count as one.
                let already = self.known.borrow().state.throttled_until;
                if already.is_none_or(|until| until <= clock::now()) {
                    lately.throttled = lately.throttled.saturating_add(1).min(16);
                }
                return None;
            }
            Went::Refused { .. } => return None,
            Went::Sent | Went::Answered => {
                lately.throttled = 0;
                false
            }
            Went::Failing => true,
        };
        if self.known.borrow().state.broken.is_some() {
            return None;
        }
        lately.window.ended(Instant::now(), failed, &self.breaker)
    }

    /// The provider wants fewer calls: for how long, by what it asked.
    pub fn throttled(&self, asked: Option<Duration>) -> Went {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let unasked = Duration::from_secs(1) * 2_u32.saturating_pow(lately.throttled);
        Went::Throttled {
            wait: asked.unwrap_or(unasked.min(LONGEST_THROTTLE)),
            asked: asked.is_some(),
        }
    }

    /// Before when nothing may go to a customer, if so.
    pub fn pair_waits(&self, who: impl FnOnce() -> IdentityId) -> Option<Timestamp> {
        self.pairs.until(who, clock::now())
    }

    /// The account may not write to that customer before `until`: also in other conversations, whoever owns them.
    pub async fn pair_refused(&self, who: IdentityId, until: Timestamp) {
        let now = clock::now();
        if !self.pairs.wait(who, until, now) {
            return;
        }
        let (key, text) = (pairs::key(&self.key, &who), until.unix_ms().to_string());
        let kept = pairs::time_to_live(until, now);
        if let Err(error) = self.bucket.put_for(&key, text.into(), kept).await {
            // Each lane learns it from the provider, too.
            warn!(account = %self.key, error = %Chain(&error), "could not tell the other workers that a customer of `{}` waits", self.key);
        }
    }

    /// What another worker wrote about a customer: the moment, in milliseconds; nothing when that is over.
    pub fn learn_pair(&self, who: IdentityId, bytes: &[u8]) {
        let ms = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        if let Some(ms) = ms {
            self.pairs
                .wait(who, Timestamp::from_unix_ms(ms), clock::now());
        }
    }

    /// Says what has changed, in the log and in the metrics.
    fn say(&self, before: &State, now: &State) {
        let key = &self.key;
        self.metrics.held.set(i64::from(now.held.is_some()));
        self.metrics.paused.set(i64::from(now.paused.is_some()));
        self.metrics.broken.set(i64::from(now.broken.is_some()));
        match (&before.paused, &now.paused) {
            (None, Some(paused)) => {
                info!(account = %key, by = paused.by, "account `{key}` is paused: its queue waits until somebody resumes it");
            }
            (Some(_), None) => info!(account = %key, "account `{key}` is resumed"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        match (&before.held, &now.held) {
            (None, Some(held)) => {
                error!(
                    account = %key, reason = ?held.reason, code = held.code.as_deref(),
                    "account `{key}` needs its operator: its queue is held, nothing fails meanwhile"
                );
            }
            (Some(_), None) => {
                info!(account = %key, "account `{key}` works again: its queue drains")
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        match (&before.broken, &now.broken) {
            (None, Some(broken)) => {
                warn!(
                    account = %key, failed = broken.failed, of = broken.of,
                    "the provider of account `{key}` fails too often: its queue waits, one message at a time tries it"
                );
            }
            (Some(_), None) => info!(account = %key, "the provider of account `{key}` works again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if let Some(until) = now.throttled_until
            && before.throttled_until < now.throttled_until
        {
            warn!(account = %key, %until, "the provider throttles account `{key}`");
        }
    }
}

impl Known {
    fn meaning(&self) -> Meaning {
        if self.read {
            self.state.meaning(clock::now())
        } else {
            Meaning::Stopped
        }
    }
}
