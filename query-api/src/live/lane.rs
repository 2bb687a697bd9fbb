//! One stream that is followed while somebody wants it: a partition, or what was put aside.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat4all_domain::{ConversationId, Partition};
use chat4all_nats::reader::{Keep, Spec};
use chat4all_nats::{Log, streams, subject};
use tokio::sync::Notify;
use uuid::Uuid;

use super::queue::End;
use super::registry::Registry;

/// Everything that was put aside.
const EVERYTHING_PARKED: &str = "chat.parked.>";

/// One stream, who listens to it, and how far it was shown to them.
pub struct Lane {
    /// Its number: that of the partition, or the next one for what was put aside.
    pub number: usize,
    /// The partition; `None` for what was put aside.
    pub partition: Option<Partition>,
    /// The stream.
    pub stream: String,
    registry: Mutex<Registry>,
    /// The sequence up to which it was shown, and one; 0 until it is known where to begin.
    shown: AtomicU64,
    /// Somebody has become interested.
    wanted: Notify,
    /// How often its log turned out to be another one.
    replaced: AtomicU64,
}

impl Lane {
    /// Every lane of a log.
    pub fn all(log: &Log) -> Vec<Self> {
        let lane = |partition: Option<Partition>, stream: String| Self {
            number: partition.map_or(usize::from(log.partitions().get()), |partition| {
                usize::from(partition.number())
            }),
            partition,
            stream,
            registry: Mutex::default(),
            shown: AtomicU64::new(0),
            wanted: Notify::new(),
            replaced: AtomicU64::new(0),
        };
        let partitions = log.partitions().all();
        let mut lanes: Vec<_> = partitions
            .map(|partition| lane(Some(partition), streams::name(partition)))
            .collect();
        lanes.push(lane(None, streams::PARKED.to_owned()));
        lanes
    }

    /// How the lane is followed: by a consumer that goes away with this process.
    pub fn spec(&self) -> Spec {
        Spec {
            stream: self.stream.clone(),
            durable: format!("live-{}-{}", self.stream, Uuid::now_v7().simple()),
            description: "shows one process's subscribers what happens".to_owned(),
            filter: self
                .partition
                .is_none()
                .then(|| EVERYTHING_PARKED.to_owned()),
            keep: Keep::WhileFollowed,
        }
    }

    /// The subject that has everything.
    pub fn everything(&self) -> String {
        self.partition
            .map_or_else(|| EVERYTHING_PARKED.to_owned(), subject::partition)
    }

    /// Everything about one conversation of this lane: no message of the log is on two of these.
    pub fn about(&self, conversation: ConversationId) -> Vec<String> {
        let prefix = self.everything();
        let prefix = prefix.trim_end_matches('>');
        [
            format!("conversation.{conversation}"),
            format!("message.{conversation}.*"),
            format!("delivery.*.{conversation}.*"),
            format!("reader.{conversation}.*"),
        ]
        .map(|path| format!("{prefix}{path}"))
        .into()
    }

    /// Up to where it was shown: whatever stands there was put into the queues of those it is for. `None` until it is known
    /// where to begin.
    pub fn shown(&self) -> Option<u64> {
        self.shown.load(Ordering::Acquire).checked_sub(1)
    }

    /// Who listens. What is shown and who listens change under this lock.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to `sequence` is in the queues of those it is for.
    pub fn show_up_to(&self, _shown: &mut Registry, sequence: u64) {
        self.shown.store(sequence + 1, Ordering::Release);
    }

    /// Somebody needs the lane to be followed, until they say that they do no more.
    pub fn want(&self) {
        self.registry().interested += 1;
        self.wanted.notify_one();
    }

    /// One of those who wanted it does no more.
    pub fn let_go(&self) {
        self.registry().interested -= 1;
    }

    /// Whether somebody needs it.
    pub fn is_wanted(&self) -> bool {
        self.registry().interested > 0
    }

    /// Waits until somebody does.
    pub async fn until_wanted(&self) {
        while !self.is_wanted() {
            self.wanted.notified().await;
        }
    }

    /// Nobody follows it from now on, and so it is not known where it is; unless somebody needs that: then `false`.
    pub fn rest_unless_wanted(&self) -> bool {
        let registry = self.registry();
        let unwanted = registry.interested == 0;
        if unwanted {
            self.shown.store(0, Ordering::Release);
        }
        unwanted
    }

    /// How often its log turned out to be another one: who has read from it looks whether that is what it was.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    /// Its log is another one: those who listen are told, and those who do not listen yet find it by [`Lane::replaced`]. It is
    /// not known any more where the lane is.
    pub fn forget(&self) {
        // First of all: whoever begins to listen behind the next line looks at this one afterwards.
        self.replaced.fetch_add(1, Ordering::AcqRel);
        self.registry().end_all(End::LogChanged);
        self.shown.store(0, Ordering::Release);
    }
}
