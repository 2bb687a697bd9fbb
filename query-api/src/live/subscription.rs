//! One subscription: what came since its cursor, then what comes, without a gap and without a double.
//!
//! The parts meet exactly: a lane's registry says, under the lock under which entries are shown, up to where it was shown when
//! the subscription joined. What is up to there is read from the log; what is behind comes through the queue. Far behind, it
//! reads without having joined, so that nothing waits meanwhile, however slow the client is.

use std::sync::Arc;
use std::time::Duration;

use chat4all_postgres::read::Reader;
use futures::stream::{self, Stream};
use tokio::time::{Instant, sleep_until};

use super::Live;
use super::behind::{Behind, Step};
use super::cursor::Cursor;
use super::entry::Entry;
use super::hub::Hub;
use super::interest::Interest;
use super::metrics::Open;
use super::queue::{End, Queue};
use super::registry::{Listener, Topic};

/// How often a subscription that is shown nothing may be told how far it has come all the same.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// And only when so many events have passed it.
const TELL_AFTER: u64 = 1_000;

/// What a subscriber is given.
#[derive(Clone)]
pub struct Update {
    /// Up to here nothing is missing: where to resume.
    pub cursor: String,
    /// What happened; `None` when only the cursor has moved.
    pub entry: Option<Arc<Entry>>,
}

/// Follows one topic for one reader. It has left its lanes when it is dropped.
pub struct Subscription {
    live: Live,
    hub: Arc<Hub>,
    /// Its lanes are followed for as long as it lives.
    _interest: Interest,
    listener: Arc<Listener>,
    cursor: Cursor,
    behind: Option<Box<Behind>>,
    joined: bool,
    /// The sum of the cursor that the subscriber has.
    told: u64,
    tell_at: Instant,
    _open: Open,
}

impl Subscription {
    /// From `after`, or from now on. `replaced`: as [`Behind::new`] wants it.
    pub(super) fn new(
        live: &Live,
        (interest, replaced): (Interest, u64),
        (reader, topic): (Reader, Topic),
        after: Option<Cursor>,
    ) -> Self {
        let lanes = interest.lanes();
        let from_now = after.is_none();
        let cursor = after.unwrap_or_else(|| Cursor::start(lanes.start, lanes.len()));
        let listener = Arc::new(Listener {
            reader,
            topic,
            queue: Queue::default(),
        });
        let mut subscription = Self {
            live: live.clone(),
            hub: Arc::clone(interest.hub()),
            _interest: interest,
            listener,
            cursor,
            behind: None,
            joined: false,
            told: 0,
            tell_at: Instant::now() + TELL_EVERY,
            _open: live.metrics().subscription(topic.name()),
        };
        if from_now {
            for (lane, end) in lanes.zip(subscription.join()) {
                subscription.cursor.advance(lane, end);
            }
        }
        let lane = subscription.cursor.lanes().start;
        subscription.behind = Some(Box::new(Behind::new(lane, replaced)));
        subscription
    }

    /// Its updates; the first one without an entry says where the subscription has begun, or that it has caught up. The last
    /// item says why no more come.
    pub fn updates(self) -> impl Stream<Item = Result<Update, (End, String)>> + Send {
        // The future is kept from poll to poll: what it has read is not lost when somebody else is looked after first.
        stream::unfold(Some(self), |subscription| async {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(update) => Some((Ok(update), Some(subscription))),
                Err(end) => Some((Err((end, subscription.cursor.to_string())), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Update, End> {
        while let Some(behind) = &mut self.behind {
            // On the heap: it is short, and an idle subscription must be small.
            let caught_up = Box::pin(behind.next(
                &self.live,
                &self.hub,
                &self.listener,
                &mut self.cursor,
                self.joined,
            ));
            match caught_up.await {
                Step::Entry(entry) => return Ok(self.update(Some(entry))),
                Step::Last(entry) => {
                    self.behind = None;
                    self.listener.queue.end(End::Left);
                    return Ok(self.update(Some(entry)));
                }
                Step::Replaced => return Err(End::LogChanged),
                Step::Near if self.joined => {
                    self.behind = None;
                    return Ok(self.update(None));
                }
                Step::Near => {
                    let ends = self.join();
                    if let Some(behind) = &mut self.behind {
                        behind.begin(&self.cursor, ends);
                    }
                }
            }
        }
        loop {
            tokio::select! {
                entry = self.listener.queue.next() => {
                    let entry = entry?;
                    // Another process may have been ahead of this one when it gave the cursor.
                    if entry.sequence > self.cursor.get(entry.lane) {
                        self.cursor.advance(entry.lane, entry.sequence);
                        return Ok(self.update(Some(entry)));
                    }
                }
                () = sleep_until(self.tell_at) => {
                    self.tell_at = Instant::now() + TELL_EVERY;
                    self.pass_what_was_not_for_it();
                    if self.cursor.sum().saturating_sub(self.told) >= TELL_AFTER {
                        return Ok(self.update(None));
                    }
                }
            }
        }
    }

    fn update(&mut self, entry: Option<Arc<Entry>>) -> Update {
        if self.behind.is_none() {
            self.pass_what_was_not_for_it();
        }
        self.told = self.cursor.sum();
        self.live.metrics().updated();
        let cursor = self.cursor.to_string();
        Update { cursor, entry }
    }

    /// Whatever was shown is in the queue or was not for it: with nothing in the queue, the cursor is where the lanes are.
    fn pass_what_was_not_for_it(&mut self) {
        let shown = |lane: usize| self.hub.lanes[lane].shown().unwrap_or(0);
        // In this order: what is shown after the first look may be in the queue already taken for empty, not before it.
        let shown: Vec<_> = self
            .cursor
            .lanes()
            .map(|lane| (lane, shown(lane)))
            .collect();
        if self.listener.queue.is_level() {
            for (lane, sequence) in shown {
                self.cursor.advance(lane, sequence);
            }
        }
    }

    /// Listens to every lane from now on; where each is.
    fn join(&mut self) -> Vec<u64> {
        self.joined = true;
        let lanes = self.cursor.lanes();
        lanes
            .map(|lane| {
                let lane = &self.hub.lanes[lane];
                let mut registry = lane.registry();
                registry.add(&self.listener);
                lane.shown().unwrap_or(0)
            })
            .collect()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.joined {
            for lane in self.cursor.lanes() {
                self.hub.lanes[lane].registry().remove(&self.listener);
            }
        }
    }
}
