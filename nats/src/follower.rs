//! Keeps the cache of one aggregate type true to what *others* append: decisions about a message need the conversation's
//! membership, and a question to the broker for every accept would cost a third of the throughput.
//!
//! Guarantee: while the follower is level with the log, a cached state is as of a few milliseconds ago; while it is behind
//! or cut off, states are read from the leader. Limit: a broker that stops sending without closing the connection is
//! noticed after two missed heartbeats (2 s); a process in that state cannot append either.

use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{Aggregate, AggregateId, Partition, Position, Revision};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use crate::direct;
use crate::load::{self, Loaded};
use crate::reader::{self, Current, Feed, Keep, Spec};
use crate::{Store, streams, subject};

/// How often a log that has not come to a position is looked at again.
const NOT_THERE_YET: Duration = Duration::from_millis(50);

/// Follows every partition's events of one aggregate type. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Follower<A: Aggregate> {
    store: Store<A>,
    partitions: Arc<Vec<Following>>,
}

#[derive(Debug)]
struct Following {
    /// Sequence up to which this partition's events of the type are known to be seen; `None` until it is known where to
    /// begin.
    seen: watch::Sender<Option<u64>>,
    /// Whether nothing is known to be missing; replaced with every feed.
    current: watch::Sender<Current>,
}

impl<A: Aggregate> Follower<A> {
    /// Starts to follow in tasks of their own, until `stop`. Wait for [`Follower::begun`] before anything is cached.
    pub fn start(store: Store<A>, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let following = |_| Following {
            seen: watch::Sender::new(None),
            current: watch::Sender::default(),
        };
        let partitions = store.log().partitions().all();
        let partitions = Arc::new(partitions.map(following).collect());
        let follower = Self { store, partitions };
        for partition in follower.store.log().partitions().all() {
            let (follower, stop) = (follower.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = follower.follow_for_ever(partition) => {}
                }
            });
        }
        follower
    }

    /// Waits until every partition is being followed; `false` when `deadline` comes first. What others append after that
    /// is noticed. A state that was cached *before* may have changed in between unnoticed: do not use the store earlier.
    pub async fn begun(&self, deadline: Instant) -> bool {
        for following in self.partitions.iter() {
            let mut seen = following.seen.subscribe();
            let begun = seen.wait_for(Option::is_some);
            if !matches!(timeout_at(deadline, begun).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }

    /// How far this partition has been seen: the last sequence that is known to be, 0 before the first.
    pub fn seen(&self, partition: Partition) -> Position {
        let following = &self.partitions[usize::from(partition.number())];
        Position::new(partition, following.seen.borrow().unwrap_or(0))
    }

    /// [`Follower::seen`] of every partition.
    pub fn all_seen(&self) -> impl Iterator<Item = Position> {
        let partitions = self.store.log().partitions().all();
        partitions.map(|partition| self.seen(partition))
    }

    /// The aggregate's state: from the cache while the follower is level with the log, otherwise from the leader.
    ///
    /// # Errors
    /// See [`load::Error`].
    pub async fn state(
        &self,
        id: &A::Id,
        deadline: Instant,
    ) -> Result<Arc<Loaded<A>>, load::Error> {
        let partition = self.store.log().partition_of(id);
        if self.is_current(partition)
            && let Some(cached) = self.store.cached(id)
        {
            return Ok(cached);
        }
        self.store.from_leader(id, deadline).await
    }

    /// Whether the cache can be believed for this partition now.
    pub fn is_current(&self, partition: Partition) -> bool {
        let following = &self.partitions[usize::from(partition.number())];
        following.current.borrow().holds(self.store.log())
    }

    /// Waits until everything up to `position` has been seen; `false` when `deadline` comes first, and so for a position that
    /// the log has not come to.
    pub async fn reach(&self, position: Position, deadline: Instant) -> bool {
        let Some(following) = self
            .partitions
            .get(usize::from(position.partition.number()))
        else {
            return false;
        };
        let mut seen = following.seen.subscribe();
        loop {
            let up_to = seen.borrow_and_update().unwrap_or(0);
            if up_to >= position.sequence {
                return true;
            }
            let (log, partition, from) = (self.store.log(), position.partition, up_to + 1);
            // First this, then what is missing: nothing can come in between at a place that the log has passed.
            match log.last_sequence(partition, deadline).await {
                Ok(last) if last >= position.sequence => {}
                Ok(_) => {
                    if Instant::now() + NOT_THERE_YET >= deadline {
                        return false;
                    }
                    tokio::time::sleep(NOT_THERE_YET).await;
                    continue;
                }
                Err(_) => return false,
            }
            // The position may be that of another aggregate's event: then it is enough that nothing of ours is missing.
            let subject = subject::of_type(position.partition, A::TYPE);
            let next = direct::next_from_leader(log, partition, &subject, from, deadline).await;
            match next {
                Ok(None) => return true,
                Ok(Some(missing)) if missing.sequence > position.sequence => return true,
                Ok(Some(_)) => {}
                Err(_) => return false,
            }
            if !matches!(timeout_at(deadline, seen.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    async fn follow_for_ever(&self, partition: Partition) {
        let following = &self.partitions[usize::from(partition.number())];
        loop {
            if let Err(error) = self.follow(partition, following).await {
                following.current.send_replace(Current::default());
                warn!(partition = %partition, %error, "following partition {partition} was interrupted");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn follow(
        &self,
        partition: Partition,
        following: &Following,
    ) -> Result<(), reader::Error> {
        let log = self.store.log();
        // Also when nothing has come yet: what was appended while the feed was interrupted must not be skipped.
        let begun = *following.seen.borrow();
        let after = match begun {
            Some(seen) => seen,
            None => self.end_of(partition).await,
        };
        let spec = Spec {
            stream: streams::name(partition),
            durable: format!("follow-{}-{partition}-{}", A::TYPE, Uuid::now_v7().simple()),
            description: format!("keeps one process's cached {} states current", A::TYPE),
            filter: Some(subject::of_type(partition, A::TYPE)),
            keep: Keep::WhileFollowed,
        };
        let mut feed = Feed::open(log.clone(), spec, after).await?;
        if begun.is_none() {
            // What was cached before anybody followed may be behind without anything to say so.
            let (store, log) = (&self.store.inner, self.store.log());
            store
                .cache
                .evict_all(|id| log.partition_of(id) == partition);
        }
        following.seen.send_replace(Some(after));
        following.current.send_replace(feed.current());
        loop {
            let stored = feed.next().await?;
            if let Some((_, path)) = subject::parse(&stored.subject)
                && let Some(id) = A::Id::from_path(path)
            {
                self.store.outdated(&id, Revision::new(stored.sequence));
            }
            following.seen.send_replace(Some(stored.sequence));
        }
    }

    /// Where to begin: what was cached before is forgotten, so what came before does not matter.
    async fn end_of(&self, partition: Partition) -> u64 {
        loop {
            let deadline = Instant::now() + Duration::from_secs(5);
            match self.store.log().last_sequence(partition, deadline).await {
                Ok(last) => return last,
                Err(error) => {
                    warn!(partition = %partition, %error, "waiting for partition {partition}")
                }
            }
        }
    }
}
