//! Which partitions a worker has, by leases.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use chat4all_domain::Partition;
use chat4all_nats::Log;
use chat4all_nats::lease::{self, Lease};
use chat4all_service::Shutdown;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Shares the partitions of `role` with its other workers, and shows which ones are ours at the moment. A partition that is
/// asked back leaves the set first and is given back then; who still finishes something there is fenced by the checkpoint.
pub fn by_leases(
    log: Log,
    role: &str,
    worker: &str,
    shutdown: &Shutdown,
) -> watch::Receiver<BTreeSet<Partition>> {
    let tasks = TaskTracker::new();
    let mut leases = lease::join(log, role, worker, &tasks, shutdown.soft());
    let (owned, shown) = watch::channel(BTreeSet::new());
    shutdown.spawn("leases", async move {
        let mut held: BTreeMap<Partition, Lease> = BTreeMap::new();
        let mut asked_back = FuturesUnordered::new();
        loop {
            tokio::select! {
                lease = leases.recv() => match lease {
                    Some(lease) => {
                        let (partition, token) = (lease.partition(), lease.asked_back_token());
                        asked_back.push(async move {
                            token.cancelled().await;
                            partition
                        });
                        held.insert(partition, lease);
                        owned.send_modify(|set| {
                            set.insert(partition);
                        });
                    }
                    // The keeper has ended: everything was given back.
                    None => break,
                },
                Some(partition) = asked_back.next() => {
                    owned.send_modify(|set| {
                        set.remove(&partition);
                    });
                    held.remove(&partition);
                }
            }
        }
        tasks.close();
        tasks.wait().await;
        Ok::<_, Infallible>(())
    });
    shown
}
