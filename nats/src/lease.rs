//! Leases share partitions among the workers of a role. They fence nothing: what two owners at a time could break is
//! protected by expected revisions and checkpoints.
//!
//! A lease is a key in the bucket `LEASES` (in memory, entries age out after 10 s), renewed every 3 s by compare-and-set.
//! Worker r of n (live workers, sorted) is to have P/n + (r < P mod n) partitions: who has fewer takes free ones, who has
//! more asks its work to drain and gives one back. An owner that could not renew for 6 s of its own clock starts nothing
//! new. A killed owner's partitions are free after at most 10 s and taken within the next second. What is given back is heard
//! of (deletions are published to the key's subject) and taken at once. What was taken or renewed without our hearing of it (the
//! broker's answer was late) is found under our name, and is ours.

mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::jetstream::kv::{self, UpdateErrorKind};
use chat4all_domain::Partition;
use futures::{StreamExt, future};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use share::{Seen, seen, share};

use crate::{Log, direct, streams};

/// How often a lease is renewed.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// An owner that could not renew for this long starts nothing new.
pub const STOP_STARTING_AFTER: Duration = Duration::from_secs(6);
/// How often the bucket is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon it is looked at after somebody gave something back: when the broker has stored that, and together with what else
/// comes back then.
const LOOK_AFTER: Duration = Duration::from_millis(50);
/// How long one request to the bucket may take.
const REQUEST: Duration = Duration::from_secs(2);

/// One partition that this worker may work on. Dropping it gives the partition back.
#[derive(Debug)]
pub struct Lease {
    partition: Partition,
    shared: Arc<Shared>,
    /// Says that the work on it is done.
    returned: mpsc::UnboundedSender<Partition>,
}

#[derive(Debug)]
struct Shared {
    asked_back: CancellationToken,
    /// When the renewal that succeeded last was asked for.
    renewed: Mutex<Instant>,
}

impl Lease {
    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }
    /// Whether new work may be started: renewed lately, and not asked back.
    pub fn may_start(&self) -> bool {
        !self.shared.asked_back.is_cancelled() && self.renewed_lately()
    }
    /// Whether nobody else can have it yet: what was started may go on, also when it was asked back meanwhile.
    pub fn renewed_lately(&self) -> bool {
        self.shared.since_renewed() < STOP_STARTING_AFTER
    }
    /// Waits until the partition is asked back, or lost: finish what is under way, then drop the lease.
    pub async fn asked_back(&self) {
        self.shared.asked_back.cancelled().await;
    }
    /// A token that is cancelled when the partition is asked back or lost.
    pub fn asked_back_token(&self) -> CancellationToken {
        self.shared.asked_back.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The keeper may be gone at shutdown; then the entry ages out.
        let _ = self.returned.send(self.partition);
    }
}

impl Shared {
    fn since_renewed(&self) -> Duration {
        self.renewed
            .lock()
            .expect("no code panics while it holds this lock")
            .elapsed()
    }
}

/// Takes part in sharing the partitions of `role` under the name `worker`, in a task of its own until `stop`. New leases
/// come out of the receiver. After `stop` every lease is asked back, and the receiver ends when all were returned.
pub fn join(
    log: Log,
    role: &str,
    worker: &str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> mpsc::UnboundedReceiver<Lease> {
    let (gained, leases) = mpsc::unbounded_channel();
    let (returned_to, returned) = mpsc::unbounded_channel();
    let (role, worker) = (role.to_owned(), worker.to_owned());
    let keeper = Keeper {
        log,
        role,
        worker,
        gained,
        returned_to,
        held: BTreeMap::new(),
        unrenewed: BTreeSet::new(),
    };
    tasks.spawn(keeper.run(returned, stop.clone()));
    leases
}

struct Keeper {
    log: Log,
    role: String,
    worker: String,
    gained: mpsc::UnboundedSender<Lease>,
    returned_to: mpsc::UnboundedSender<Partition>,
    held: BTreeMap<Partition, Held>,
    /// What stands still because it cannot be renewed, and was said to.
    unrenewed: BTreeSet<Partition>,
}

struct Held {
    shared: Arc<Shared>,
    /// The revision of our entry, for the compare-and-set.
    revision: u64,
    /// Somebody else has it now: there is nothing to give back.
    lost: bool,
}

impl Keeper {
    async fn run(
        mut self,
        mut returned: mpsc::UnboundedReceiver<Partition>,
        stop: CancellationToken,
    ) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut bucket, mut left) = (None, false);
        let (mut published, mut soon) = (self.published().await, false);
        while !(stop.is_cancelled() && self.held.is_empty()) {
            tokio::select! {
                _ = look.tick() => {
                    soon = false;
                    if bucket.is_none() {
                        bucket = self.bucket().await;
                    }
                    if let Some(there) = &bucket
                        && !self.tick(there, stop.is_cancelled()).await
                    {
                        bucket = None;
                    }
                    self.tell_what_stands_still();
                }
                Some(message) = next(&mut published), if !soon => {
                    if given_back(&message) {
                        soon = true;
                        look.reset_after(LOOK_AFTER);
                    }
                }
                Some(partition) = returned.recv() => self.give_back(bucket.as_ref(), partition).await,
                () = stop.cancelled(), if !left => {
                    left = true;
                    self.held.values().for_each(|held| held.shared.asked_back.cancel());
                    // At once: what is given back early must not wait for what drains longest.
                    self.leave(bucket.as_ref()).await;
                }
            }
        }
        if !left {
            self.leave(bucket.as_ref()).await;
        }
    }

    /// What is published to the role's keys. Without it the bucket is still looked at every second.
    async fn published(&self) -> Option<Subscriber> {
        let keys = format!("{}>", prefix(&self.role));
        let published = self.log.client().subscribe(keys).await;
        published
            .inspect_err(|error| debug!(%error, "not told what is given back"))
            .ok()
    }

    /// Does not count as a worker any more.
    async fn leave(&self, bucket: Option<&kv::Store>) {
        if let Some(bucket) = bucket {
            let left = tokio::time::timeout(REQUEST, bucket.delete(self.worker_key())).await;
            debug!(worker = %self.worker, ok = left.is_ok(), "left the role");
        }
    }

    /// The bucket, made anew if need be: a single broker that restarts has forgotten what was in memory, the bucket too.
    async fn bucket(&self) -> Option<kv::Store> {
        let js = self.log.jetstream();
        if let Ok(bucket) = js.get_key_value(streams::LEASES).await {
            return Some(bucket);
        }
        let made = js.create_stream(streams::leases(self.log.replicas())).await;
        debug!(role = %self.role, ok = made.is_ok(), "made the bucket of leases anew");
        js.get_key_value(streams::LEASES).await.ok()
    }

    /// `false` when the bucket does not answer, or is not there any more. What is asked of it is asked side by side: on a busy
    /// broker one late answer must not make the others too late.
    async fn tick(&mut self, bucket: &kv::Store, stopping: bool) -> bool {
        let key = self.worker_key();
        if stopping {
            self.renew(bucket).await;
            return true;
        }
        let ((), shown) = future::join(self.renew(bucket), show_up(bucket, key)).await;
        if !shown {
            return false;
        }
        let Some(seen) = self.look().await else {
            return true;
        };
        let share = share(self.log.partitions().get(), &seen.workers, &self.worker);
        let kept = self
            .held
            .values()
            .filter(|held| !held.shared.asked_back.is_cancelled())
            .count();
        if kept > share {
            self.ask_back(kept - share);
        } else if self.held.len() < share {
            self.take_free(bucket, &seen, share - self.held.len()).await;
        }
        true
    }

    /// Renews what is due. What was lost is asked back at once.
    async fn renew(&mut self, bucket: &kv::Store) {
        let (role, worker) = (&self.role, &self.worker);
        let due = self
            .held
            .iter_mut()
            .filter(|(_, held)| !held.lost && held.shared.since_renewed() >= RENEW_EVERY);
        future::join_all(due.map(async |(partition, held)| {
            match renew_held(bucket, &format!("{role}.{partition}"), worker, held).await {
                Renewed::Yes => {}
                Renewed::Conflict => {
                    warn!(partition = %partition, role = %role, "lost the lease of partition {partition}");
                    held.lost = true;
                    held.shared.asked_back.cancel();
                }
                // It stays held, and `may_start` turns false in time.
                Renewed::Unknown => debug!(partition = %partition, "could not renew"),
            }
        }))
        .await;
    }

    /// Says of each partition once that it stands still because it could not be renewed. Behind the renewals: who was frozen and
    /// wakes asks first.
    fn tell_what_stands_still(&mut self) {
        let late = self.held.iter().filter(|(_, held)| {
            let kept = !held.shared.asked_back.is_cancelled();
            kept && held.shared.since_renewed() >= STOP_STARTING_AFTER
        });
        let late: BTreeSet<_> = late.map(|(partition, _)| *partition).collect();
        let new = late.difference(&self.unrenewed).map(Partition::to_string);
        let new: Vec<_> = new.collect();
        if !new.is_empty() {
            let (role, new, after) = (&self.role, new.join(" "), STOP_STARTING_AFTER.as_secs());
            warn!(role = %role, "the leases of `{role}` on partitions {new} could not be renewed for {after} s: nothing new is begun there until they are");
        }
        self.unrenewed = late;
    }

    async fn look(&self) -> Option<Seen> {
        let stream = format!("KV_{}", streams::LEASES);
        let prefix = prefix(&self.role);
        let all = format!("{prefix}>");
        let deadline = Instant::now() + REQUEST;
        let entries = direct::last_of_each(&self.log, &stream, &all, deadline)
            .await
            .ok()?;
        Some(seen(&entries, &prefix))
    }

    fn ask_back(&self, surplus: usize) {
        // The highest first, so that everybody keeps what they have had longest.
        let kept = self
            .held
            .iter()
            .rev()
            .filter(|(_, held)| !held.shared.asked_back.is_cancelled());
        for (partition, held) in kept.take(surplus) {
            info!(partition = %partition, role = %self.role, "giving partition {partition} to another worker");
            held.shared.asked_back.cancel();
        }
    }

    /// Takes what nobody has, and what is ours without our knowing.
    async fn take_free(&mut self, bucket: &kv::Store, seen: &Seen, missing: usize) {
        let worker = &self.worker;
        let free = self.log.partitions().all().filter_map(|partition| {
            let ours = match seen.taken.get(&partition) {
                None => None,
                Some(entry) if entry.worker == *worker => Some(entry.revision),
                Some(_) => return None,
            };
            (!self.held.contains_key(&partition)).then_some((partition, ours))
        });
        let role = &self.role;
        let taken = future::join_all(free.take(missing).map(async |(partition, ours)| {
            let key = format!("{role}.{partition}");
            (partition, take(bucket, key, worker, ours).await)
        }))
        .await;
        for (partition, taken) in taken {
            let Some((asked, revision)) = taken else {
                continue;
            };
            info!(partition = %partition, role = %self.role, "took partition {partition}");
            let shared = Arc::new(Shared {
                asked_back: CancellationToken::new(),
                renewed: Mutex::new(asked),
            });
            self.held.insert(
                partition,
                Held {
                    shared: Arc::clone(&shared),
                    revision,
                    lost: false,
                },
            );
            let lease = Lease {
                partition,
                shared,
                returned: self.returned_to.clone(),
            };
            // When nobody takes leases any more it comes back with the error and is dropped.
            let _ = self.gained.send(lease);
        }
    }

    async fn give_back(&mut self, bucket: Option<&kv::Store>, partition: Partition) {
        let Some(held) = self.held.remove(&partition) else {
            return;
        };
        let (Some(bucket), false) = (bucket, held.lost) else {
            return;
        };
        let key = format!("{}.{partition}", self.role);
        let delete = bucket.delete_expect_revision(key, Some(held.revision));
        if !matches!(tokio::time::timeout(REQUEST, delete).await, Ok(Ok(()))) {
            debug!(partition = %partition, "could not give the lease back; it ages out");
        }
    }

    fn worker_key(&self) -> String {
        format!("{}.worker.{}", self.role, self.worker)
    }
}

/// Where the keys of a role are published.
fn prefix(role: &str) -> String {
    format!("$KV.{}.{role}.", streams::LEASES)
}

async fn next(published: &mut Option<Subscriber>) -> Option<async_nats::Message> {
    published.as_mut()?.next().await
}

/// Whether a lease or a worker's entry was deleted.
fn given_back(message: &async_nats::Message) -> bool {
    let headers = message.headers.as_ref();
    headers.is_some_and(|headers| headers.get("KV-Operation").is_some())
}

/// What became of a renewal.
enum Renewed {
    Yes,
    /// The entry is not as we knew it.
    Conflict,
    Unknown,
}

async fn show_up(bucket: &kv::Store, key: String) -> bool {
    let put = bucket.put(key, "here".into());
    matches!(tokio::time::timeout(REQUEST, put).await, Ok(Ok(_)))
}

/// When it was asked for, and the entry's revision; `ours`: that of an entry which is there under our name.
async fn take(
    bucket: &kv::Store,
    key: String,
    worker: &str,
    ours: Option<u64>,
) -> Option<(Instant, u64)> {
    let (asked, value) = (Instant::now(), worker.to_owned().into());
    let revision = tokio::time::timeout(REQUEST, async {
        match ours {
            None => bucket.create(key, value).await.ok(),
            Some(revision) => bucket.update(key, value, revision).await.ok(),
        }
    });
    Some((asked, revision.await.ok()??))
}

/// Renews a lease, also when the answer to the renewal before it did not come.
async fn renew_held(bucket: &kv::Store, key: &str, worker: &str, held: &mut Held) -> Renewed {
    match renew_one(bucket, key, worker, held).await {
        Renewed::Conflict => match revision_of_ours(bucket, key, worker).await {
            Some(revision) => {
                held.revision = revision;
                renew_one(bucket, key, worker, held).await
            }
            None => Renewed::Conflict,
        },
        other => other,
    }
}

async fn renew_one(bucket: &kv::Store, key: &str, worker: &str, held: &mut Held) -> Renewed {
    let asked = Instant::now();
    let update = bucket.update(key, worker.to_owned().into(), held.revision);
    match tokio::time::timeout(REQUEST, update).await {
        Ok(Ok(revision)) => {
            held.revision = revision;
            *held
                .shared
                .renewed
                .lock()
                .expect("no code panics while it holds this lock") = asked;
            Renewed::Yes
        }
        Ok(Err(error)) if error.kind() == UpdateErrorKind::WrongLastRevision => Renewed::Conflict,
        Ok(Err(_)) | Err(_) => Renewed::Unknown,
    }
}

/// The entry's revision if it is ours all the same: a renewal went through and its answer was lost.
async fn revision_of_ours(bucket: &kv::Store, key: &str, worker: &str) -> Option<u64> {
    let entry = tokio::time::timeout(REQUEST, bucket.entry(key)).await;
    let entry = entry.ok()?.ok()??;
    let ours = entry.operation == kv::Operation::Put && entry.value == worker.as_bytes();
    ours.then_some(entry.revision)
}
