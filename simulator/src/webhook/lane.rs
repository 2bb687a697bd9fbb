//! The lanes of one account: who sends which item when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::header::CONTENT_TYPE;
use tokio::sync::Notify;
use tracing::debug;

use super::{Item, Log, State, What, payload};
use crate::account::{Account, Subscription};
use crate::clock::UnixMs;
use crate::config::Settings;
use crate::sync::lock;
use crate::world::World;

/// Calls of one account at the same time.
const LANES: usize = 8;
/// How often an item that waits for the verify handshake looks again, unscaled.
const HANDSHAKE_POLL_MS: u64 = 200;

/// Ordered by when it is due, then by age.
type Due = Reverse<(Instant, u64, ByAge)>;

/// An item that compares equal to every other: the fields in front of it decide.
struct ByAge(Arc<Item>);

impl PartialEq for ByAge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for ByAge {}
impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByAge {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

#[derive(Default)]
struct Lane {
    waiting: Mutex<BinaryHeap<Due>>,
    changed: Notify,
}

/// Items by customer's number: those of one number share a lane, and so keep their order.
pub(crate) struct Lanes {
    lanes: [Arc<Lane>; LANES],
    hasher: RandomState,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            lanes: std::array::from_fn(|_| Arc::default()),
            hasher: RandomState::new(),
        }
    }
    /// Puts an item into its lane.
    pub(super) fn push(&self, item: Arc<Item>, due: Instant) {
        let hash = self.hasher.hash_one(&*item.message.number);
        let lane = &self.lanes[usize::try_from(hash % LANES as u64).expect("a remainder of 8")];
        lane.push(item, due);
    }
    /// Lets every lane look again.
    pub(crate) fn wake(&self) {
        for lane in &self.lanes {
            lane.changed.notify_one();
        }
    }
    /// Forgets what waits.
    pub(crate) fn clear(&self) {
        for lane in &self.lanes {
            lock(&lane.waiting).clear();
        }
    }
}

/// What a lane can do now.
enum Next {
    Send(Vec<Arc<Item>>),
    WaitUntil(Instant),
    Wait,
}

impl Lane {
    fn push(&self, item: Arc<Item>, due: Instant) {
        lock(&self.waiting).push(Reverse((due, item.seq, ByAge(item))));
        self.changed.notify_one();
    }

    fn next(&self, now: Instant, batch_max: usize) -> Next {
        let mut waiting = lock(&self.waiting);
        let mut batch = Vec::new();
        while batch.len() < batch_max
            && waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now)
        {
            if let Some(Reverse((_, _, ByAge(item)))) = waiting.pop() {
                batch.push(item);
            }
        }
        match waiting.peek() {
            _ if !batch.is_empty() => Next::Send(batch),
            Some(Reverse((due, ..))) => Next::WaitUntil(*due),
            None => Next::Wait,
        }
    }
}

/// Starts the lanes of `account`; they end with the shutdown.
pub(crate) fn start_lanes(world: &Arc<World>, account: &Arc<Account>) {
    for lane in &account.lanes.lanes {
        let (world, account, lane) = (world.clone(), account.clone(), lane.clone());
        world.clone().tracker.spawn(async move {
            let run = run(&world, &account, &lane);
            tokio::select! {
                () = run => {}
                () = world.shutdown.cancelled() => {}
            }
        });
    }
}

async fn run(world: &World, account: &Account, lane: &Lane) {
    loop {
        let settings = world.settings();
        match lane.next(Instant::now(), settings.batch_max) {
            Next::Send(items) => send(world, account, lane, settings, items).await,
            Next::WaitUntil(due) => {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = lane.changed.notified() => {}
                }
            }
            Next::Wait => lane.changed.notified().await,
        }
    }
}

/// Lets the phones know, and the business where it is to be told.
async fn send(
    world: &World,
    account: &Account,
    lane: &Lane,
    settings: Settings,
    mut items: Vec<Arc<Item>>,
) {
    items.retain(|item| match item.what {
        What::Message => true,
        What::Status {
            step, unreported, ..
        } => {
            item.message.advance(step);
            if unreported {
                item.end(State::Unreported);
            }
            !unreported
        }
    });
    match account.subscription() {
        _ if items.is_empty() => {}
        Subscription::None => items.iter().for_each(|item| item.end(State::Unsubscribed)),
        Subscription::Pending => {
            let due = Instant::now()
                + Duration::from_millis(settings.scaled_ms(HANDSHAKE_POLL_MS).max(1));
            items.into_iter().for_each(|item| lane.push(item, due));
        }
        Subscription::Active => {
            let status = call(world, account, settings, &items).await;
            Log::called(&items, status == Some(200));
            items
                .into_iter()
                .for_each(|item| settle(lane, settings, item, status));
        }
    }
}

/// Calls the webhook once. None: no answer in time.
async fn call(
    world: &World,
    account: &Account,
    settings: Settings,
    items: &[Arc<Item>],
) -> Option<u16> {
    let config = account.config();
    let url = config.webhook_url.clone()?;
    let body = payload::body(&config, &account.digits(), items).to_string();
    let request = world
        .client
        .post(url)
        .timeout(Duration::from_millis(settings.webhook_timeout_ms))
        .header(CONTENT_TYPE, "application/json")
        .header(
            "X-Hub-Signature-256",
            payload::signature(&config.app_secret, body.as_bytes()),
        )
        .body(body);
    match request.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // Read to the end, so that the connection can be used again.
            let _ignored = answer.bytes().await;
            Some(status)
        }
        Err(error) => {
            let error = error.without_url();
            debug!(account = %account.id, items = items.len(), %error, "webhook of `{}` gave no answer", account.id);
            None
        }
    }
}

fn settle(lane: &Lane, settings: Settings, item: Arc<Item>, status: Option<u16>) {
    let now = UnixMs::now();
    let attempts = item.attempted(status, now);
    if status == Some(200) {
        if matches!(item.what, What::Message) {
            item.message.advance(crate::phone::Step::Delivered);
        }
        item.end(State::Delivered);
        return;
    }
    let wait_ms = settings.backoff_ms(attempts);
    let age_ms = u64::try_from(now.0 - item.created.0).unwrap_or(0);
    if age_ms.saturating_add(wait_ms) > settings.scaled_ms(settings.retry_give_up_ms) {
        item.end(State::GivenUp);
    } else {
        lane.push(item, Instant::now() + Duration::from_millis(wait_ms));
    }
}
