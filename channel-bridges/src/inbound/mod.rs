//! Inward: what webhooks stored is understood here, in order, and put aside where it cannot be.
//!
//! One owner per kind of channel follows `chat.in.<kind>`. Every item of every call goes into a lane: messages by account and
//! sender, receipts by the message they are about. Lanes run side by side, each in order. Everything an item does can be done
//! again from the top: all ids on the way are derived.

pub(crate) mod again;
mod item;
mod owner;

use std::sync::Arc;

use chat4all_domain::{ChannelKind, Conversation, Identity, Message};
use chat4all_nats::{Log, Store, lease, streams};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::bucket::Bucket;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::outbound::Error;
use crate::receipts::Receipts;

/// Where webhook calls of a kind are stored.
pub(crate) fn subject(kind: ChannelKind) -> String {
    format!("chat.in.{kind}")
}

/// What dealing with items needs.
pub(crate) struct Inbox {
    pub(crate) kind: ChannelKind,
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) identities: Store<Identity>,
    pub(crate) conversations: Store<Conversation>,
    pub(crate) messages: Store<Message>,
    pub(crate) receipts: Receipts,
    pub(crate) marks: Bucket,
    pub(crate) metrics: Metrics,
}

impl Inbox {
    pub(crate) fn new(
        kind: ChannelKind,
        config: &Config,
        log: &Log,
        receipts: Receipts,
        tasks: &TaskTracker,
        metrics: &Metrics,
    ) -> Self {
        Self {
            kind,
            config: config.clone(),
            identities: Store::new(log.clone(), tasks.clone()),
            conversations: Store::new(log.clone(), tasks.clone()),
            messages: Store::new(log.clone(), tasks.clone()),
            receipts,
            marks: Bucket::new(log.clone(), streams::LANES),
            metrics: metrics.clone(),
            log: log.clone(),
        }
    }

    /// Works until `stop`, as the owner while it holds partition 0 of the role: leases come by partition, and this work has
    /// only one part.
    pub(crate) async fn run(
        self: Arc<Self>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let role = format!("inbound-{}", self.kind);
        let name = &self.config.worker;
        let mut leases = lease::join(self.log.clone(), &role, name, tasks, &stop);
        let mut held = JoinSet::new();
        loop {
            tokio::select! {
                lease = leases.recv() => match lease {
                    Some(lease) if lease.partition().number() == 0 => {
                        held.spawn(owner::own(Arc::clone(&self), lease));
                    }
                    Some(lease) => {
                        held.spawn(async move {
                            lease.asked_back().await;
                            Ok(())
                        });
                    }
                    None => break,
                },
                Some(ended) = held.join_next() => ended.map_err(Error::Died)??,
            }
        }
        info!(channel = %self.kind, "inbound of {} has stopped", self.kind);
        Ok(())
    }
}
