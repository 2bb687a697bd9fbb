//! The owner of one kind's inbound stream: hands items to lanes, and remembers up to where all is done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use chat4all_domain::AccountId;
use chat4all_nats::lease::Lease;
use chat4all_nats::reader::{Feed, Keep, Spec};
use chat4all_nats::{Stored, codec, streams};
use chat4all_service::Chain;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::channel::{self, Item, Unreadable, What};
use crate::inbound::{Inbox, item, subject};
use crate::mark::Mark;
use crate::outbound::{Error, open_feed};
use crate::receipts::ACCOUNT;
use crate::reference;

/// How often the place is remembered, at most.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Lanes that run side by side. Each waits for an append most of its time; with 128 receipts fell ever further behind what was
/// handed over on a full machine, with 512 they keep up (docs/performance.md, (b2)).
const AT_A_TIME: usize = 512;
/// Items that wait in memory at most; the stream keeps the others.
const WAITING: usize = 5_000;

/// What keeps its order among itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LaneKey {
    /// What one address writes to one account.
    Sender(AccountId, String),
    /// What one account is told about one message.
    Message(AccountId, String),
    /// What nobody understands.
    Unread(AccountId),
}

/// One item on its way.
pub struct Work {
    pub account: AccountId,
    pub item: Item,
    pub traceparent: Option<String>,
    /// Another owner may have begun with it.
    pub begun: bool,
    /// The call it came in.
    call: u64,
}

/// Owns the stream until the lease is asked back or lost.
pub async fn own(inbox: Arc<Inbox>, lease: Lease) -> Result<(), Error> {
    let stop = lease.asked_back_token();
    let Some(opened) = stop.run_until_cancelled(Owner::open(inbox)).await else {
        return Ok(());
    };
    let mut owner = opened;
    owner.run(&lease).await?;
    owner.mark(&lease).await;
    Ok(())
}

struct Owner {
    inbox: Arc<Inbox>,
    feed: Feed,
    /// With calls up to here an owner before may have begun.
    begun: u64,
    lanes: HashMap<LaneKey, VecDeque<Work>>,
    ready: VecDeque<LaneKey>,
    working: JoinSet<(LaneKey, u64)>,
    waiting: usize,
    /// Items that are not done yet, by call.
    open: BTreeMap<u64, usize>,
    mark: Mark,
    /// What it says, as far as we moved it.
    marked: Option<u64>,
}

impl Owner {
    async fn open(inbox: Arc<Inbox>) -> Self {
        let kind = inbox.kind;
        let (mark, after) = Mark::open(inbox.marks.clone(), mark_key(&inbox)).await;
        let spec = Spec {
            stream: streams::INBOUND.to_owned(),
            durable: format!("inbound-{kind}"),
            description: format!("understands what came in through {kind}"),
            filter: Some(subject(kind)),
            keep: Keep::Always,
        };
        let feed = open_feed(&inbox.log, &spec, after).await;
        let begun = end(&inbox).await;
        info!(channel = %kind, after, "owns what comes in through {kind}, from {after}");
        Self {
            inbox,
            feed,
            begun,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            working: JoinSet::new(),
            waiting: 0,
            open: BTreeMap::new(),
            mark,
            marked: None,
        }
    }

    async fn run(&mut self, lease: &Lease) -> Result<(), Error> {
        let stop = lease.asked_back_token();
        let mut mark = tokio::time::interval(MARK_EVERY);
        mark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(stop.is_cancelled() && self.working.is_empty()) {
            while self.working.len() < AT_A_TIME && lease.may_start() {
                let Some(key) = self.ready.pop_front() else {
                    break;
                };
                self.start(key, stop.clone());
            }
            tokio::select! {
                biased;
                Some(ended) = self.working.join_next() => {
                    let (key, call) = ended.map_err(Error::Died)?;
                    self.ended(key, call);
                }
                _ = mark.tick() => self.mark(lease).await,
                () = stop.cancelled(), if self.working.is_empty() => {}
                // As outward: not before the lease is renewed, or found lost.
                stored = self.feed.next(), if lease.may_start() && self.waiting < WAITING => {
                    self.take(&stored?);
                }
            }
        }
        Ok(())
    }

    /// Takes a call apart.
    fn take(&mut self, stored: &Stored) {
        let header = |name: &str| {
            stored
                .headers
                .get(name)
                .map(|value| value.as_str().to_owned())
        };
        let account = header(ACCOUNT).and_then(|text| text.parse::<AccountId>().ok());
        let Some(account) = account else {
            error!(
                sequence = stored.sequence,
                "a stored webhook call does not say its account"
            );
            return;
        };
        let items = match self.inbox.config.accounts.get(&account) {
            Some(settings) => channel::read_webhook(settings, &stored.payload),
            None => vec![Item {
                raw: String::from_utf8_lossy(&stored.payload).into_owned(),
                what: Err(Unreadable("an account that is not configured")),
            }],
        };
        for item in items {
            let key = lane_of(&account, &item);
            *self.open.entry(stored.sequence).or_default() += 1;
            self.waiting += 1;
            let work = Work {
                account: account.clone(),
                item,
                traceparent: header(codec::TRACEPARENT),
                begun: stored.sequence <= self.begun,
                call: stored.sequence,
            };
            let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
                self.ready.push_back(key);
                VecDeque::new()
            });
            lane.push_back(work);
        }
    }

    /// Starts a lane's first item. The lane stays, empty or not, until that has ended.
    fn start(&mut self, key: LaneKey, stop: tokio_util::sync::CancellationToken) {
        let Some(work) = self.lanes.get_mut(&key).and_then(VecDeque::pop_front) else {
            self.lanes.remove(&key);
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        self.working.spawn(async move {
            let call = work.call;
            // Asked back before it is done: the next owner does it again from the top.
            match stop
                .run_until_cancelled(item::deal_with(&inbox, &work))
                .await
            {
                Some(()) => (key, call),
                None => (key, 0),
            }
        });
    }

    fn ended(&mut self, key: LaneKey, call: u64) {
        self.waiting -= 1;
        if let Some(count) = self.open.get_mut(&call) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&call);
            }
        }
        if self.lanes.get(&key).is_some_and(|lane| !lane.is_empty()) {
            self.ready.push_back(key);
        } else {
            self.lanes.remove(&key);
        }
    }

    /// Everything up to here is done.
    async fn mark(&mut self, lease: &Lease) {
        let position = self.feed.position();
        self.feed.folded(position).await;
        let lowest = self.open.keys().next();
        let mark = lowest.map_or(position, |lowest| lowest - 1);
        let behind = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        self.inbox.metrics.inbound_lag(self.inbox.kind, behind);
        if mark == 0 || self.marked == Some(mark) {
            return;
        }
        match self.mark.set(mark, HeaderMap::new(), lease).await {
            Ok(true) => self.marked = Some(mark),
            Ok(false) => {}
            Err(error) => {
                warn!(error = %Chain(&error), "the place in the inbound stream cannot be remembered now")
            }
        }
    }
}

/// The end of the stream; as good as everything when it does not say.
async fn end(inbox: &Inbox) -> u64 {
    let stream = inbox.log.jetstream().get_stream(streams::INBOUND).await;
    stream.map_or(u64::MAX, |stream| stream.cached_info().state.last_sequence)
}

fn lane_of(account: &AccountId, item: &Item) -> LaneKey {
    match &item.what {
        Ok(What::Message(message)) => {
            LaneKey::Sender(account.clone(), message.from.reveal().to_owned())
        }
        Ok(What::Receipt(report)) => {
            LaneKey::Message(account.clone(), reference::shortened(&report.provider_id))
        }
        Err(_) => LaneKey::Unread(account.clone()),
    }
}

fn mark_key(inbox: &Inbox) -> String {
    format!("inbound.{}", inbox.kind)
}
