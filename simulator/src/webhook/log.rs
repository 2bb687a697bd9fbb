//! The record of webhooks: a ring of items, and counts.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use super::{Item, State, What};
use crate::account::Account;
use crate::calls::{Page, page};
use crate::clock::UnixMs;
use crate::phone::Message;
use crate::sync::lock;
use crate::world::World;

/// Counts of one stretch between two resets: items on their way at a reset go on counting where they began.
#[derive(Default)]
pub(super) struct Counters {
    created: AtomicU64,
    ended: [AtomicU64; State::ALL.len()],
    calls: AtomicU64,
    failed_calls: AtomicU64,
}

impl Counters {
    pub(super) fn ended(&self, state: State) {
        self.ended[state as usize].fetch_add(1, Ordering::Relaxed);
    }
    fn pending(&self) -> u64 {
        let ended: u64 = self
            .ended
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        self.created.load(Ordering::Relaxed).saturating_sub(ended)
    }
}

/// Counts over all items since the start or the last reset.
#[derive(Debug, Serialize)]
pub(crate) struct WebhookCounts {
    /// Items that wait for their time or their next attempt.
    pending: u64,
    delivered: u64,
    given_up: u64,
    unreported: u64,
    unsubscribed: u64,
    dropped: u64,
    /// HTTP calls made, each with one item or several.
    calls: u64,
    /// Of those: not answered with 200.
    failed_calls: u64,
    /// Items that are no longer in the record.
    forgotten: u64,
}

struct Ring {
    items: VecDeque<Arc<Item>>,
    next_seq: u64,
    forgotten: u64,
    counters: Arc<Counters>,
}

pub(crate) struct Log {
    ring: Mutex<Ring>,
    limit: usize,
}

impl Log {
    pub(crate) fn new(limit: usize) -> Self {
        let ring = Ring {
            items: VecDeque::new(),
            next_seq: 1,
            forgotten: 0,
            counters: Arc::default(),
        };
        Self {
            ring: Mutex::new(ring),
            limit: limit.max(1),
        }
    }

    /// Records an item and puts it into its lane, due in `delay_ms`. A full queue drops it, and says so.
    pub(crate) fn enqueue(
        &self,
        world: &World,
        account: &Account,
        message: Arc<Message>,
        what: What,
        delay_ms: u64,
    ) -> Arc<Item> {
        let item = {
            let mut ring = lock(&self.ring);
            if ring.items.len() >= self.limit {
                ring.items.pop_front();
                ring.forgotten += 1;
            }
            let item = Arc::new(Item {
                seq: ring.next_seq,
                message,
                what,
                created: UnixMs::now(),
                attempts: 0.into(),
                last_status: 0.into(),
                last_attempt: 0.into(),
                state: (State::Pending as u8).into(),
                counters: ring.counters.clone(),
                tried: Notify::new(),
            });
            ring.next_seq += 1;
            ring.items.push_back(item.clone());
            item
        };
        let waiting = item.counters.pending();
        item.counters.created.fetch_add(1, Ordering::Relaxed);
        if waiting >= world.settings().queue_limit {
            item.end(State::Dropped);
        } else {
            account.lanes.push(
                item.clone(),
                Instant::now() + Duration::from_millis(delay_ms),
            );
        }
        item
    }

    /// One HTTP call with these items was made.
    pub(super) fn called(items: &[Arc<Item>], delivered: bool) {
        if let Some(first) = items.first() {
            first.counters.calls.fetch_add(1, Ordering::Relaxed);
            first
                .counters
                .failed_calls
                .fetch_add(u64::from(!delivered), Ordering::Relaxed);
        }
    }

    /// Up to `limit` items after number `since` that `wanted` holds for.
    pub(crate) fn page(
        &self,
        since: u64,
        limit: usize,
        wanted: impl Fn(&Item) -> bool,
    ) -> Page<Item> {
        let ring = lock(&self.ring);
        page(
            &ring.items,
            since,
            limit,
            ring.forgotten,
            |item| item.seq,
            wanted,
        )
    }

    pub(crate) fn counts(&self) -> WebhookCounts {
        let (counters, forgotten) = {
            let ring = lock(&self.ring);
            (ring.counters.clone(), ring.forgotten)
        };
        let ended = |state: State| counters.ended[state as usize].load(Ordering::Relaxed);
        WebhookCounts {
            pending: counters.pending(),
            delivered: ended(State::Delivered),
            given_up: ended(State::GivenUp),
            unreported: ended(State::Unreported),
            unsubscribed: ended(State::Unsubscribed),
            dropped: ended(State::Dropped),
            calls: counters.calls.load(Ordering::Relaxed),
            failed_calls: counters.failed_calls.load(Ordering::Relaxed),
            forgotten,
        }
    }

    /// Forgets everything but the numbering.
    pub(crate) fn clear(&self) {
        let mut ring = lock(&self.ring);
        ring.items.clear();
        ring.forgotten = 0;
        ring.counters = Arc::default();
    }
}
