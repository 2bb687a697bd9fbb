//! Lanes: what waits to be sent, folded from the log. Pure; the owner of a partition feeds it and asks what is next.
//!
//! One lane per (account, conversation, recipient), in the order of the log. Only a lane's head may be sent, and the next one
//! only when the log says how that went: a retry never lets a later message overtake, and delays nobody in another lane.

mod retrying;

use std::collections::{BTreeMap, HashMap};

use chat4all_domain::delivery::{self, Entry, Event, FailureClass, Operation, Status};
use chat4all_domain::message;
use chat4all_domain::{AccountId, ChannelKind, ConversationId, Delivery, ParticipantId, Timestamp};

pub use retrying::Retrying;

/// What lanes carry today; edits and reactions will be other operations of the same delivery.
pub const SEND: Operation = Operation::Send;

/// Names a lane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The account it goes out through.
    pub account: AccountId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Who is to get it.
    pub recipient: ParticipantId,
}

/// Refusals of one class in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    class: Option<FailureClass>,
    count: u32,
}

impl Streak {
    /// How many there were of `class`.
    pub fn of(self, class: FailureClass) -> u32 {
        if self.class == Some(class) {
            self.count
        } else {
            0
        }
    }
    /// One more of `class`.
    #[must_use]
    pub fn and(self, class: FailureClass) -> Self {
        Self {
            class: Some(class),
            count: self.of(class).saturating_add(1),
        }
    }
}

/// What is to be sent next in a lane. References only: the text stays on the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The deliveries of its message.
    pub id: delivery::Id,
    /// Which of them.
    pub n: u16,
    /// Whose turn it is: sequence of `MessageAccepted`, or of `DeliveryRedriven`.
    pub place: u64,
    /// Where `MessageAccepted` stands.
    pub accepted_at: u64,
    /// Number of the next attempt.
    pub attempt: u32,
    /// The generation it belongs to.
    pub generation: u32,
    /// Later it is not worth sending.
    pub expires: Timestamp,
    /// How it went lately.
    pub streak: Streak,
    /// The last attempt's outcome is not known, and nothing came that would tell.
    pub unsure: bool,
}

/// What a lane asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing waits in it.
    Empty,
    /// Its head is under way.
    Busy,
    /// Nothing before that moment.
    At(Timestamp),
    /// This.
    Go(Head),
}

/// What is known of a message that has deliveries open.
struct Tracked {
    /// What its deliveries' events add up to.
    delivery: Delivery,
    /// The sequence of the last event that is in there.
    seen: u64,
    accepted_at: u64,
    planned: Vec<message::PlannedDelivery>,
    /// How long it is worth sending, in milliseconds from `MessageAccepted` or from a redrive.
    valid_ms: i64,
    items: BTreeMap<u16, Item>,
}

struct Item {
    place: u64,
    expires: Timestamp,
    streak: Streak,
    /// Since when the outcome of its last attempt is missing, as far as this owner saw.
    unsure_since: Option<Timestamp>,
    /// Where the last wait stands that its streak has counted.
    counted: u64,
}

#[derive(Default)]
struct Lane {
    /// By place.
    queue: BTreeMap<u64, (delivery::Id, u16)>,
    busy: bool,
    /// Until when its head waits for another try, and why.
    waits: Option<(Timestamp, FailureClass)>,
}

/// Everything open in one partition, for one kind of channel.
pub struct Lanes {
    kind: ChannelKind,
    messages: HashMap<delivery::Id, Tracked>,
    lanes: HashMap<LaneKey, Lane>,
    /// How many open deliveries have their place at a sequence.
    open: BTreeMap<u64, usize>,
    /// How many there are of each account.
    waiting: BTreeMap<AccountId, usize>,
}

/// The lanes that an event touched, and what has to be looked up to go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Ask these what is next.
    pub lanes: Vec<LaneKey>,
    /// A delivery was redriven whose message is not known here: numbers by sequence of the event.
    pub unknown: Vec<(u16, u64, Timestamp)>,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(kind: ChannelKind) -> Self {
        Self {
            kind,
            messages: HashMap::new(),
            lanes: HashMap::new(),
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// The lowest place of anything open.
    pub fn lowest_open(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }
    /// How many deliveries are open.
    pub fn open(&self) -> usize {
        self.open.values().sum()
    }
    /// How many of them go out through each account; none of those that have none.
    pub fn waiting(&self) -> &BTreeMap<AccountId, usize> {
        &self.waiting
    }
    /// Every lane that has something in it.
    pub fn all(&self) -> Vec<LaneKey> {
        self.lanes.keys().cloned().collect()
    }
    /// The account that delivery `n` goes out through, while its message is tracked.
    pub fn account_of(&self, id: &delivery::Id, n: u16) -> Option<&AccountId> {
        let planned = self.messages.get(id)?.planned.get(usize::from(n))?;
        Some(&planned.account)
    }

    /// A message was accepted at `sequence`.
    pub fn accepted(
        &mut self,
        id: message::Id,
        sequence: u64,
        facts: &message::Accepted,
    ) -> Vec<LaneKey> {
        let id = delivery::Id {
            kind: self.kind,
            conversation: id.conversation,
            message: id.message,
        };
        if self.messages.contains_key(&id) || !self.has_mine(facts) {
            return vec![];
        }
        self.track(id, sequence, facts, Delivery::default(), 0);
        let expires = facts.valid_until;
        let numbers = (0..).zip(&facts.deliveries);
        let mine = numbers.filter(|(_, planned)| planned.kind == self.kind);
        let mine: Vec<u16> = mine.map(|(n, _)| n).collect();
        let enqueue = |n| self.enqueue(id, n, sequence, expires);
        mine.into_iter().filter_map(enqueue).collect()
    }

    fn has_mine(&self, facts: &message::Accepted) -> bool {
        facts.deliveries.iter().any(|p| p.kind == self.kind)
    }

    fn track(
        &mut self,
        id: delivery::Id,
        accepted_at: u64,
        facts: &message::Accepted,
        delivery: Delivery,
        seen: u64,
    ) {
        let tracked = Tracked {
            delivery,
            seen,
            accepted_at,
            planned: facts.deliveries.clone(),
            valid_ms: facts.valid_until.unix_ms() - facts.occurred_at.unix_ms(),
            items: BTreeMap::new(),
        };
        self.messages.insert(id, tracked);
    }

    fn enqueue(
        &mut self,
        id: delivery::Id,
        n: u16,
        place: u64,
        expires: Timestamp,
    ) -> Option<LaneKey> {
        let tracked = self.messages.get_mut(&id)?;
        if tracked.items.contains_key(&n) {
            return None;
        }
        let key = lane_of(&id, tracked.planned.get(usize::from(n))?);
        let item = Item {
            place,
            expires,
            streak: Streak::default(),
            unsure_since: None,
            counted: 0,
        };
        tracked.items.insert(n, item);
        *self.open.entry(place).or_default() += 1;
        *self.waiting.entry(key.account.clone()).or_default() += 1;
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.queue.insert(place, (id, n));
        Some(key)
    }

    /// Events of deliveries, read from the log at `sequence`.
    pub fn folded(&mut self, id: delivery::Id, sequence: u64, events: &[Event]) -> Touched {
        let mut touched = Touched::default();
        if let Some(tracked) = self.messages.get_mut(&id) {
            if sequence > tracked.seen {
                tracked.seen = sequence;
                let before = std::mem::take(&mut tracked.delivery);
                tracked.delivery = events.iter().fold(before, Delivery::evolve);
                another_attempt(&mut tracked.items, events);
            }
            streaks(&mut tracked.items, sequence, events);
        }
        for event in events {
            let (n, _) = event.key();
            // Also when it was seen before, in a state that an execution brought: only here it gets its place. One that is
            // over again leaves its lane as soon as it is looked at.
            if let Event::Redriven { facts } = event {
                match self.messages.get(&id).map(|tracked| tracked.valid_ms) {
                    Some(valid_ms) => {
                        let expires = after_ms(facts.occurred_at, valid_ms);
                        self.remove(&id, n);
                        self.enqueue(id, n, sequence, expires);
                    }
                    None => touched.unknown.push((n, sequence, facts.occurred_at)),
                }
            }
            touched.lanes.extend(self.lane_key(&id, n));
        }
        touched
    }

    /// A delivery was redriven whose message was not known here; this is what the log says about it.
    pub fn rejoin(
        &mut self,
        id: delivery::Id,
        accepted: (u64, &message::Accepted),
        state: (Delivery, u64),
        (n, place, redriven_at): (u16, u64, Timestamp),
    ) -> Option<LaneKey> {
        if !self.messages.contains_key(&id) {
            let ((accepted_at, facts), (delivery, seen)) = (accepted, state);
            self.track(id, accepted_at, facts, delivery, seen);
        }
        let valid_ms = self.messages.get(&id)?.valid_ms;
        self.enqueue(id, n, place, after_ms(redriven_at, valid_ms))
    }

    /// What an execution of ours found or made: the state at `seen`, and its own events.
    pub fn adopt(&mut self, id: &delivery::Id, state: Delivery, seen: u64, events: &[Event]) {
        if let Some(tracked) = self.messages.get_mut(id) {
            // Also one that is as new: the log has the last word on what stands at a revision.
            if seen >= tracked.seen {
                tracked.seen = seen;
                tracked.delivery = state;
            }
            streaks(&mut tracked.items, seen, events);
        }
    }

    /// The outcome of the head's last attempt is not known to anybody.
    pub fn unsure(&mut self, head: &Head, now: Timestamp) {
        if let Some(item) = self.item(&head.id, head.n) {
            item.unsure_since = Some(now);
            item.streak = item.streak.and(FailureClass::Unsure);
        }
    }

    /// The work on a lane's head has ended.
    pub fn rest(&mut self, key: &LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.busy = false;
        }
    }

    /// What `key` asks for now. What [`Next::Go`] gives is under way from then on, until [`Lanes::rest`].
    /// `unsure_wait` says how long to wait for an outcome that is missing, given how often it was missing in a row.
    pub fn next(
        &mut self,
        key: &LaneKey,
        now: Timestamp,
        unsure_wait: impl Fn(u32) -> std::time::Duration,
    ) -> Next {
        loop {
            let Some(lane) = self.lanes.get_mut(key) else {
                return Next::Empty;
            };
            if lane.busy {
                return Next::Busy;
            }
            lane.waits = None;
            let Some((id, n)) = lane.queue.first_entry().map(|entry| *entry.get()) else {
                self.lanes.remove(key);
                return Next::Empty;
            };
            let Some(tracked) = self.messages.get_mut(&id) else {
                lane.queue.pop_first();
                continue;
            };
            let entry = tracked.delivery.entry(n, SEND);
            if entry.status() != Status::Pending {
                self.leave(&id, n);
                continue;
            }
            let Some(item) = tracked.items.get_mut(&n) else {
                lane.queue.pop_first();
                continue;
            };
            let not_before = not_before(&entry, item, now, &unsure_wait);
            if let Some(moment) = not_before.map(|moment| moment.min(item.expires))
                && moment > now
            {
                let unsure = entry.in_flight.is_some().then_some(FailureClass::Unsure);
                // Nobody tries what expires first.
                let class = unsure
                    .or(item.streak.class)
                    .filter(|_| moment < item.expires);
                lane.waits = class.map(|class| (moment, class));
                return Next::At(moment);
            }
            lane.busy = true;
            return Next::Go(Head {
                id,
                n,
                place: item.place,
                accepted_at: tracked.accepted_at,
                attempt: entry.attempts.saturating_add(1),
                generation: entry.generation,
                expires: item.expires,
                streak: item.streak,
                unsure: entry.in_flight.is_some(),
            });
        }
    }

    fn item(&mut self, id: &delivery::Id, n: u16) -> Option<&mut Item> {
        self.messages.get_mut(id)?.items.get_mut(&n)
    }

    fn lane_key(&self, id: &delivery::Id, n: u16) -> Option<LaneKey> {
        let tracked = self.messages.get(id)?;
        tracked.items.get(&n)?;
        Some(lane_of(id, tracked.planned.get(usize::from(n))?))
    }

    /// It needs nothing more from us.
    fn leave(&mut self, id: &delivery::Id, n: u16) {
        self.remove(id, n);
        if self
            .messages
            .get(id)
            .is_some_and(|tracked| tracked.items.is_empty())
        {
            self.messages.remove(id);
        }
    }

    fn remove(&mut self, id: &delivery::Id, n: u16) {
        let Some(key) = self.lane_key(id, n) else {
            return;
        };
        let Some(tracked) = self.messages.get_mut(id) else {
            return;
        };
        let Some(item) = tracked.items.remove(&n) else {
            return;
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.queue.remove(&item.place);
        }
        if let Some(count) = self.open.get_mut(&item.place) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&item.place);
            }
        }
        if let Some(count) = self.waiting.get_mut(&key.account) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&key.account);
            }
        }
    }
}

/// Until when a pending delivery waits, if it does.
fn not_before(
    entry: &Entry,
    item: &mut Item,
    now: Timestamp,
    unsure_wait: impl Fn(u32) -> std::time::Duration,
) -> Option<Timestamp> {
    if entry.in_flight.is_some() {
        // Somebody attempted it and has not said how that went: a worker that died, or one that is still at it.
        let since = *item.unsure_since.get_or_insert(now);
        Some(since.plus(unsure_wait(item.streak.of(FailureClass::Unsure))))
    } else {
        item.unsure_since = None;
        entry.deferred_until
    }
}

/// Another attempt, another wait for its outcome.
fn another_attempt(items: &mut BTreeMap<u16, Item>, events: &[Event]) {
    for event in events {
        if let Event::Attempted { facts } = event
            && let Some(item) = items.get_mut(&facts.n)
        {
            item.unsure_since = None;
        }
    }
}

/// Counts each wait once: it comes by the fold, and by the answer to who made it, in either order; that answer has nothing of
/// the others in its envelope.
fn streaks(items: &mut BTreeMap<u16, Item>, sequence: u64, events: &[Event]) {
    for event in events {
        if let Event::Deferred { facts } = event
            && let Some(item) = items.get_mut(&facts.n)
            && item.counted < sequence
        {
            item.streak = item.streak.and(facts.class);
            item.counted = sequence;
        }
    }
}

fn lane_of(id: &delivery::Id, planned: &message::PlannedDelivery) -> LaneKey {
    LaneKey {
        account: planned.account.clone(),
        conversation: id.conversation,
        recipient: planned.participant,
    }
}

fn after_ms(moment: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(moment.unix_ms().saturating_add(ms))
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
