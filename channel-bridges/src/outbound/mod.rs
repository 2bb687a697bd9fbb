//! Outward: lanes, not queues. One worker per kind of channel, any number of processes.
//!
//! A worker owns partitions by leases, folds each from its low-water mark into [`lanes`], and works on the head of every lane
//! that has one, side by side up to the account's share. What is on the log decides; what is in memory can be lost.

mod attempt;
pub(crate) mod lanes;
mod outcome;
mod owner;
mod text;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use chat4all_domain::{AccountId, ChannelKind, Delivery, IdSecret};
use chat4all_nats::{Log, Store, lease, streams};
use chat4all_service::Chain;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::accounts;
use crate::bucket::Bucket;
use crate::channel::Channel;
use crate::config::{Account, Config, Pace};
use crate::gate::{Gate, pairs};
use crate::metrics::{AccountMetrics, Metrics};
use crate::receipts::Receipts;

pub(crate) use lanes::SEND;
pub(crate) use owner::open_feed;

/// One account as the worker uses it.
pub(crate) struct Line {
    pub(crate) settings: Account,
    pub(crate) channel: Channel,
    pub(crate) gate: Arc<Gate>,
    pub(crate) metrics: AccountMetrics,
}

/// The bridge of one kind of channel in this process.
pub(crate) struct Worker {
    pub(crate) kind: ChannelKind,
    /// This process among others.
    pub(crate) name: String,
    pub(crate) log: Log,
    pub(crate) deliveries: Store<Delivery>,
    pub(crate) receipts: Receipts,
    pub(crate) texts: text::Recent,
    pub(crate) lines: BTreeMap<AccountId, Line>,
    pub(crate) pace: Pace,
    pub(crate) ids: IdSecret,
    pub(crate) marks: Bucket,
    pub(crate) metrics: Metrics,
}

/// The bridge cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A partition cannot be followed.
    #[error("the bridge cannot follow the log")]
    Feed(#[from] chat4all_nats::reader::Error),
    /// A part of it has panicked.
    #[error("a part of the bridge has died")]
    Died(#[source] tokio::task::JoinError),
}

impl Worker {
    /// A worker for `kind`.
    ///
    /// # Errors
    /// When an HTTP client cannot be made.
    pub(crate) fn new(
        kind: ChannelKind,
        config: &Config,
        (log, deliveries, receipts): (Log, Store<Delivery>, Receipts),
        metrics: &Metrics,
    ) -> Result<Self, reqwest::Error> {
        let state = Bucket::new(log.clone(), streams::CHANNEL_STATE);
        let mine = config.accounts.iter().filter(|(_, a)| a.kind() == kind);
        let lines = mine.map(|(id, settings)| {
            let counted = metrics.account(kind, id);
            let limits = (settings.concurrency(), settings.rate_per_s());
            let line = Line {
                settings: settings.clone(),
                channel: Channel::new(settings, config.pace.provider_timeout)?,
                gate: Gate::new(
                    accounts::key(kind, id),
                    state.clone(),
                    limits,
                    (config.pace.probe_every, config.pace.breaker),
                    counted.clone(),
                ),
                metrics: counted,
            };
            Ok((id.clone(), line))
        });
        Ok(Self {
            kind,
            name: config.worker.clone(),
            lines: lines.collect::<Result<_, reqwest::Error>>()?,
            pace: config.pace.clone(),
            ids: config.ids.clone(),
            marks: Bucket::new(log.clone(), streams::LANES),
            metrics: metrics.clone(),
            log,
            deliveries,
            receipts,
            texts: text::Recent::new(),
        })
    }

    /// Works until `stop`, then finishes what is under way and gives its partitions back.
    pub(crate) async fn run(
        self: Arc<Self>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let role = format!("bridge-{}", self.kind);
        let mut leases = lease::join(self.log.clone(), &role, &self.name, tasks, &stop);
        let mut owners = JoinSet::new();
        let done = CancellationToken::new();
        let mut watching = JoinSet::new();
        watching.spawn(Arc::clone(&self).watch(done.clone()));
        loop {
            tokio::select! {
                lease = leases.recv() => match lease {
                    Some(lease) => {
                        owners.spawn(owner::own(Arc::clone(&self), lease));
                    }
                    None => break,
                },
                Some(ended) = owners.join_next() => ended.map_err(Error::Died)??,
                // It ends with the bridge. Without it nobody would hear of an operator's pause.
                Some(ended) = watching.join_next() => ended.map_err(Error::Died)?,
            }
            self.share(owners.len());
        }
        info!(channel = %self.kind, "the bridge of {} has stopped", self.kind);
        Ok(())
    }

    fn share(&self, owned: usize) {
        let all = usize::from(self.log.partitions().get());
        self.lines
            .values()
            .for_each(|line| line.gate.share(owned, all));
    }

    /// Follows what other workers learn about the accounts.
    async fn watch(self: Arc<Self>, done: CancellationToken) {
        let mut said = false;
        while !done.is_cancelled() {
            match self.watch_once().await {
                Ok(()) => said = false,
                Err(error) if !said => {
                    said = true;
                    warn!(channel = %self.kind, error = %Chain(&*error), "the accounts' states cannot be followed now; nothing goes out through one whose state was never read");
                }
                Err(_) => {}
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    fn line_of(&self, key: &str) -> Option<(&AccountId, &Line)> {
        let mut lines = self.lines.iter();
        lines.find(|(id, _)| accounts::key(self.kind, id) == key)
    }

    async fn watch_once(&self) -> Result<(), async_nats::Error> {
        let js = self.log.jetstream();
        let bucket = js.get_key_value(streams::CHANNEL_STATE).await?;
        // Before anybody calls: a pause that was there before this worker was.
        let stands = Bucket::new(self.log.clone(), streams::CHANNEL_STATE);
        for (id, line) in &self.lines {
            let entry = stands.last(&accounts::key(self.kind, id)).await?;
            line.gate.learn(
                entry
                    .as_ref()
                    .map(|entry| (&entry.bytes[..], entry.revision)),
            );
        }
        let mut entries = bucket
            .watch_with_history(format!("{}.>", self.kind))
            .await?;
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            let line = self.line_of(&entry.key);
            if let Some((_, line)) = line {
                line.gate.learn(Some((&entry.value[..], entry.revision)));
            } else if let Some((account, who)) = pairs::parse(&entry.key)
                && let Some((_, line)) = self.line_of(account)
            {
                line.gate.learn_pair(who, &entry.value);
            }
        }
        Ok(())
    }
}
