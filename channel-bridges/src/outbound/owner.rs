//! The owner of one partition: folds it into lanes and keeps their heads under way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::delivery::{self, Event};
use chat4all_domain::{AccountId, Recorded, Timestamp, message};
use chat4all_nats::lease::Lease;
use chat4all_nats::reader::{self, Feed, Spec};
use chat4all_nats::{Change, Log, Stored};
use chat4all_service::Chain;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use crate::accounts::{self, mark_key};
use crate::clock;
use crate::mark::Mark;
use crate::outbound::attempt::{self, Desk, Ended};
use crate::outbound::lanes::{Head, LaneKey, Lanes, Next, Retrying, Touched};
use crate::outbound::outcome::State;
use crate::outbound::verdict::scheduled;
use crate::outbound::{Error, Worker, text};
use crate::receipts::DEADLINE;
use crate::reference::Reference;

/// How often the low-water mark is written, at most, and the broker is told how far we are.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// After trouble, look again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest that a lane sleeps without a look at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// References that a partition stores side by side while folding. A put that is not acknowledged within a second is made anew, so
/// a slow broker must not get more at a time than it can do in one: it would be busy with what nobody waits for any more.
const REFERENCES_AT_A_TIME: usize = 32;
/// The longest pause before a reference is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Owns a partition until its lease is asked back or lost.
pub async fn own(worker: Arc<Worker>, lease: Lease) -> Result<(), Error> {
    let stop = lease.asked_back_token();
    let Some(opened) = stop.run_until_cancelled(Owner::open(worker, lease)).await else {
        return Ok(());
    };
    let mut owner = opened;
    owner.run().await?;
    owner.mark().await;
    Ok(())
}

struct Owner {
    desk: Arc<Desk>,
    feed: Feed,
    lanes: Lanes,
    /// What was in the partition when it was opened: before that is folded, nobody knows what is still to be sent.
    level_at: u64,
    level: bool,
    working: JoinSet<(LaneKey, Head, Ended)>,
    wakes: BinaryHeap<Reverse<(Instant, LaneKey)>>,
    /// References on their way into the bucket, by the sequence of their `DeliverySent`.
    storing: JoinSet<u64>,
    not_stored: BTreeMap<u64, usize>,
    mark: Mark,
    /// What the bucket says.
    marked: Marked,
    counted: i64,
}

/// A mark, how much waits for which account, and what of it for another try.
#[derive(PartialEq)]
struct Marked {
    place: u64,
    waiting: BTreeMap<AccountId, usize>,
    retrying: BTreeMap<AccountId, Retrying>,
}

impl Owner {
    async fn open(worker: Arc<Worker>, lease: Lease) -> Self {
        let partition = lease.partition();
        let key = mark_key(&worker.kind, partition);
        let (mark, after) = Mark::open(worker.marks.clone(), key).await;
        let level_at = loop {
            let deadline = Instant::now() + DEADLINE;
            match worker.log.last_sequence(partition, deadline).await {
                Ok(sequence) => break sequence,
                Err(error) => {
                    warn!(%partition, error = %Chain(&error), "partition {partition} does not answer");
                }
            }
        };
        let kind = worker.kind;
        let what = format!("bridge of {kind}, partition {partition}");
        let spec = Spec::partition(partition, format!("bridge-{kind}-{partition}"), what);
        let feed = open_feed(&worker.log, &spec, after).await;
        info!(%partition, after, level_at, "owns partition {partition} for {kind}, folding from {after}");
        Self {
            lanes: Lanes::new(kind),
            desk: Arc::new(Desk::new(worker, lease)),
            feed,
            level_at,
            level: level_at <= after,
            working: JoinSet::new(),
            wakes: BinaryHeap::new(),
            storing: JoinSet::new(),
            not_stored: BTreeMap::new(),
            mark,
            // What an owner before said may not be true any more.
            marked: Marked {
                place: u64::MAX,
                waiting: BTreeMap::new(),
                retrying: BTreeMap::new(),
            },
            counted: 0,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        let stop = self.desk.lease.asked_back_token();
        let mut mark = tokio::time::interval(MARK_EVERY);
        mark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(stop.is_cancelled() && self.working.is_empty()) {
            let wake = self.wakes.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                biased;
                Some(ended) = self.working.join_next() => {
                    let (key, head, ended) = ended.map_err(Error::Died)?;
                    self.ended(key, &head, ended);
                }
                Some(stored) = self.storing.join_next() => {
                    self.stored(stored.map_err(Error::Died)?);
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if let Some(Reverse((_, key))) = self.wakes.pop() {
                        self.advance(key);
                    }
                }
                _ = mark.tick() => self.mark().await,
                // Drained when the last work has ended.
                () = stop.cancelled(), if self.working.is_empty() => {}
                // Who stood still reads nothing before the lease is renewed, or found lost: what happened meanwhile is perhaps
                // no longer ours, and the answer about the lease would have to wait behind all of it.
                stored = self.feed.next(), if self.desk.lease.may_start() && self.storing.len() < REFERENCES_AT_A_TIME => {
                    self.fold(&stored?).await;
                    if !self.level && self.feed.position() >= self.level_at {
                        self.level = true;
                        self.lanes.all().into_iter().for_each(|key| self.advance(key));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whole partitions are read, because only so can a gap be seen; what is not ours is skipped unread.
    async fn fold(&mut self, stored: &Stored) {
        let worker = Arc::clone(&self.desk.worker);
        if !is_ours(&stored.subject, worker.kind.as_str()) {
            return;
        }
        match Change::read(&stored.subject, stored.sequence, &stored.payload) {
            Ok(Change::Message(id, events)) => self.message(id, stored, &events),
            Ok(Change::Delivery(id, events)) => self.delivery(id, stored.sequence, &events).await,
            Ok(Change::Conversation(..) | Change::Reader(..) | Change::Identity(..)) => {}
            Err(error) => {
                error!(
                    position = %format!("{}-{}", self.desk.lease.partition(), stored.sequence),
                    error = %Chain(&error), "an event cannot be read and is not delivered"
                );
            }
        }
    }

    fn message(&mut self, id: message::Id, stored: &Stored, events: &[Recorded<message::Event>]) {
        for recorded in events {
            let message::Event::Accepted { facts, .. } = &recorded.event;
            let touched = self.lanes.accepted(id, stored.sequence, facts);
            if self.level && !touched.is_empty() {
                let partition = self.desk.lease.partition();
                self.desk
                    .worker
                    .texts
                    .folded(partition, stored, &recorded.event);
            }
            touched.into_iter().for_each(|key| self.advance(key));
        }
    }

    async fn delivery(&mut self, id: delivery::Id, sequence: u64, recorded: &[Recorded<Event>]) {
        for one in recorded {
            if let Event::Sent { facts, personal } = &one.event
                && !personal.parts.is_empty()
                && !self.desk.remembered().remove(&(id, facts.n, facts.attempt))
            {
                let reference = Reference {
                    conversation: id.conversation,
                    message: id.message,
                    n: facts.n,
                    attempt: facts.attempt,
                };
                let account = self.lanes.account_of(&id, facts.n).cloned();
                self.store(sequence, id, reference, account, personal.parts.clone());
            }
        }
        let events: Vec<Event> = recorded.iter().map(|one| one.event.clone()).collect();
        let Touched { lanes, unknown } = self.lanes.folded(id, sequence, &events);
        lanes.into_iter().for_each(|key| self.advance(key));
        for redriven in unknown {
            self.rejoin(id, redriven).await;
        }
    }

    /// A redriven delivery whose message was not in the fold: the log knows it.
    async fn rejoin(&mut self, id: delivery::Id, redriven: (u16, u64, Timestamp)) {
        let worker = Arc::clone(&self.desk.worker);
        let of = message::Id {
            conversation: id.conversation,
            message: id.message,
        };
        let stop = self.desk.lease.asked_back_token();
        while !stop.is_cancelled() {
            let deadline = Instant::now() + DEADLINE;
            let message = text::of(&worker.log, &of).await;
            let state = worker.deliveries.from_leader(&id, deadline).await;
            match (message, state) {
                (Ok(Some(message)), Ok(loaded)) => {
                    let state = (loaded.state.clone(), loaded.revision.get());
                    let accepted = (message.sequence, &message.facts);
                    if let Some(key) = self.lanes.rejoin(id, accepted, state, redriven) {
                        self.advance(key);
                    }
                    return;
                }
                (Ok(None), _) => {
                    error!(message.id = %id.message, "deliveries of message `{}`, which is not on the log", id.message);
                    return;
                }
                (Err(error), _) => {
                    warn!(message.id = %id.message, error = %Chain(&error), "message `{}` cannot be read now", id.message);
                }
                (_, Err(error)) => {
                    warn!(message.id = %id.message, error = %Chain(&error), "message `{}` cannot be read now", id.message);
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Stores the references of a `DeliverySent` that the fold met, and deals with the receipts that waited for them.
    fn store(
        &mut self,
        sequence: u64,
        id: delivery::Id,
        reference: Reference,
        account: Option<AccountId>,
        parts: Vec<String>,
    ) {
        *self.not_stored.entry(sequence).or_default() += 1;
        let worker = Arc::clone(&self.desk.worker);
        self.storing.spawn(async move {
            let account = match account {
                Some(account) => Some(account),
                None => account_of(&worker, &id, reference.n).await,
            };
            let line = account.as_ref().and_then(|id| worker.lines.get(id));
            if let (Some(account), Some(line)) = (&account, line) {
                for part in &parts {
                    let mut pause = AGAIN;
                    while let Err(error) = remember(&worker, account, line, part, reference).await {
                        warn!(message.id = %id.message, error = %Chain(&error), "the reference of message `{}` cannot be stored now", id.message);
                        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
            sequence
        });
    }

    fn stored(&mut self, sequence: u64) {
        if let Some(count) = self.not_stored.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                self.not_stored.remove(&sequence);
            }
        }
    }

    /// Does what a lane asks for.
    fn advance(&mut self, key: LaneKey) {
        if !self.level || self.desk.lease.asked_back_token().is_cancelled() {
            return;
        }
        let worker = &self.desk.worker;
        let line = worker.lines.get(&key.account);
        let echoes = line.is_some_and(|line| line.settings.echoes());
        let pace = &worker.pace;
        let unsure_wait = |times: u32| {
            let least = if echoes {
                pace.unsure_wait
            } else {
                Duration::ZERO
            };
            match times {
                // Found after a restart.
                0 => least,
                _ => least.max(scheduled(&pace.transient, times - 1)),
            }
        };
        match self.lanes.next(&key, clock::now(), unsure_wait) {
            Next::Empty | Next::Busy => {}
            Next::At(moment) => self.wake(clock::until(moment), key),
            Next::Go(head) => {
                let desk = Arc::clone(&self.desk);
                let account = key.account.clone();
                self.working.spawn(async move {
                    let ended = attempt::work(desk, head.clone(), account).await;
                    (key, head, ended)
                });
            }
        }
    }

    fn wake(&mut self, after: Duration, key: LaneKey) {
        // Looked at again from time to time: the system's clock may be set, or stand still, meanwhile.
        let after = after.min(LONGEST_SLEEP);
        // Times on the log count milliseconds: not a moment too early.
        let at = Instant::now() + after + Duration::from_millis(1);
        self.wakes.push(Reverse((at, key)));
    }

    fn ended(&mut self, key: LaneKey, head: &Head, ended: Ended) {
        self.lanes.rest(&key);
        match ended {
            Ended::Known(state) => {
                self.adopt(head, *state);
                self.advance(key);
            }
            Ended::Unsure(state) => {
                self.adopt(head, *state);
                self.lanes.unsure(head, clock::now());
                self.advance(key);
            }
            Ended::NotStarted(wait) => self.wake(wait, key),
        }
    }

    fn adopt(&mut self, head: &Head, state: State) {
        let State {
            delivery,
            revision,
            events,
        } = state;
        self.lanes.adopt(&head.id, delivery, revision, &events);
    }

    /// Where the next owner has to begin: nothing before it is open, or waits for its reference.
    async fn mark(&mut self) {
        let open = i64::try_from(self.lanes.open()).unwrap_or(i64::MAX);
        let worker = Arc::clone(&self.desk.worker);
        worker
            .metrics
            .open_changed(worker.kind, open - self.counted);
        self.counted = open;
        let position = self.feed.position();
        self.feed.folded(position).await;
        // Before everything is folded less seems to wait than does.
        if !self.level {
            return;
        }
        let lowest = [
            self.lanes.lowest_open(),
            self.not_stored.keys().next().copied(),
        ];
        let lowest = lowest.into_iter().flatten().min();
        let place = lowest.map_or(position, |lowest| position.min(lowest - 1));
        let marked = Marked {
            place,
            waiting: self.lanes.waiting().clone(),
            retrying: self.lanes.retrying(),
        };
        if self.marked == marked {
            return;
        }
        let headers = accounts::waiting_headers(&marked.waiting, &marked.retrying);
        match self.mark.set(place, headers, &self.desk.lease).await {
            Ok(true) => self.marked = marked,
            Ok(false) => {}
            Err(error) => warn!(error = %Chain(&error), "the low-water mark cannot be written now"),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let worker = &self.desk.worker;
        worker.metrics.open_changed(worker.kind, -self.counted);
    }
}

/// Follows from `after` on, as soon as the broker lets us. A place that is not of this log is no place: then from the start,
/// which is only slower.
pub async fn open_feed(log: &Log, spec: &Spec, mut after: u64) -> Feed {
    loop {
        match Feed::open(log.clone(), spec.clone(), after).await {
            Ok(feed) => return feed,
            Err(error @ reader::Error::Ahead { .. }) => {
                error!(stream = %spec.stream, error = %Chain(&error), "the place to go on from is not of this log");
                after = 0;
            }
            Err(error @ reader::Error::Consumer { .. }) => {
                warn!(stream = %spec.stream, error = %Chain(&error), "{} cannot be followed now", spec.stream);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn remember(
    worker: &Worker,
    account: &AccountId,
    line: &crate::outbound::Line,
    part: &str,
    reference: Reference,
) -> Result<(), crate::receipts::Error> {
    let kind = worker.kind;
    let receipts = &worker.receipts;
    receipts.remember((kind, account), part, reference).await?;
    receipts
        .collect((kind, account, &line.settings), part)
        .await
}

/// The account that a delivery went out through; `None` when the log does not say.
async fn account_of(worker: &Worker, id: &delivery::Id, n: u16) -> Option<AccountId> {
    let of = message::Id {
        conversation: id.conversation,
        message: id.message,
    };
    loop {
        match text::of(&worker.log, &of).await {
            Ok(message) => {
                let message = message?;
                let planned = message.facts.deliveries.get(usize::from(n))?;
                return Some(planned.account.clone());
            }
            Err(error @ text::Error::Other(_)) => {
                error!(message.id = %id.message, error = %Chain(&error), "message `{}` cannot be read", id.message);
                return None;
            }
            Err(error @ text::Error::Away(_)) => {
                warn!(message.id = %id.message, error = %Chain(&error), "message `{}` cannot be read now", id.message);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// `chat.evt.<pp>.message.…` and `chat.evt.<pp>.delivery.<kind>.…`.
fn is_ours(subject: &str, kind: &str) -> bool {
    let mut tokens = subject.split('.').skip(3);
    match tokens.next() {
        Some("message") => true,
        Some("delivery") => tokens.next() == Some(kind),
        Some(_) | None => false,
    }
}
