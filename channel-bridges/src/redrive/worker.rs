//! Who works on the jobs: of all bridge workers the one that holds partition 0 of the role `redrive`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{ChannelKind, Delivery};
use chat4all_nats::lease::{self, Lease};
use chat4all_nats::{Log, Store};
use chat4all_service::Chain;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::jobs::Jobs;
use super::run;
use crate::inbound::Inbox;
use crate::outbound::Error;

/// How often the list of jobs is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What trying dead letters again needs.
pub(crate) struct Redriver {
    pub(super) jobs: Jobs,
    pub(super) log: Log,
    pub(super) deliveries: Store<Delivery>,
    /// Where what came in is understood, by kind of channel.
    pub(super) inboxes: BTreeMap<ChannelKind, Arc<Inbox>>,
    name: String,
}

impl Redriver {
    pub(crate) fn new(
        log: &Log,
        deliveries: Store<Delivery>,
        inboxes: BTreeMap<ChannelKind, Arc<Inbox>>,
        name: &str,
    ) -> Self {
        Self {
            jobs: Jobs::new(log),
            log: log.clone(),
            deliveries,
            inboxes,
            name: name.to_owned(),
        }
    }

    /// Works until `stop`; an item under way is finished. Leases come by partition, and this work has only one part.
    pub(crate) async fn run(
        self: Arc<Self>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let mut leases = lease::join(self.log.clone(), "redrive", &self.name, tasks, &stop);
        let mut held = JoinSet::new();
        loop {
            tokio::select! {
                lease = leases.recv() => match lease {
                    Some(lease) if lease.partition().number() == 0 => {
                        held.spawn(Arc::clone(&self).own(lease));
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
        Ok(())
    }

    async fn own(self: Arc<Self>, lease: Lease) -> Result<(), Error> {
        let stop = lease.asked_back_token();
        let lease = Arc::new(lease);
        let (mut running, mut ids) = (JoinSet::new(), BTreeSet::new());
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = false;
        while !(stop.is_cancelled() && running.is_empty()) {
            tokio::select! {
                Some(ended) = running.join_next() => {
                    ids.remove(&ended.map_err(Error::Died)?);
                }
                () = stop.cancelled(), if running.is_empty() => {}
                _ = look.tick(), if !stop.is_cancelled() => match self.jobs.all_open().await {
                    Ok((open, _)) => {
                        said = false;
                        for id in open.into_iter().filter(|_| lease.may_start()) {
                            if ids.insert(id) {
                                info!(job = %id, "works on redrive `{id}`");
                                running.spawn(run::work(Arc::clone(&self), id, Arc::clone(&lease)));
                            }
                        }
                    }
                    Err(error) if !said => {
                        said = true;
                        warn!(error = %Chain(&error), "the redrives cannot be looked at now");
                    }
                    Err(_) => {}
                },
            }
        }
        Ok(())
    }
}
