//! The feeds of the owned partitions, each in a task of its own, and what they have brought.
//!
//! A task each, because a feed that has to ask the log must get its answer however busy the others are. What they bring is
//! bounded: a few chunks in the channel, one in each task's hands.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::panic::resume_unwind;

use chat4all_domain::Partition;
use chat4all_nats::reader::{self, Feed, Spec};
use chat4all_nats::{Log, Stored};
use futures::FutureExt;
use futures::future::try_join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::batch::Event;

/// About how many bytes of payload are folded together, at most.
const BATCH_BYTES: usize = 1024 * 1024;
/// Events that a feed hands over together, at most.
const CHUNK: usize = 125;
/// About how many bytes of payload a feed hands over together, at most.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait to be folded.
const CHUNKS: usize = 8;

/// Events of one partition, in order.
type Chunk = Vec<Event>;

pub(crate) struct Intake {
    chunks: mpsc::Receiver<Chunk>,
    /// Kept, so that the channel stays open when there is no partition to follow.
    _open: mpsc::Sender<Chunk>,
    /// What has arrived and did not fit any more.
    held: VecDeque<Event>,
    /// Of their payloads.
    held_bytes: usize,
    committed: BTreeMap<Partition, watch::Sender<u64>>,
    /// Aborted when dropped.
    tasks: JoinSet<Result<Infallible, reader::Error>>,
}

impl Intake {
    /// Begins to follow each partition behind its sequence.
    ///
    /// # Errors
    /// See [`Feed::open`].
    pub async fn open(log: &Log, from: &BTreeMap<Partition, u64>) -> Result<Self, reader::Error> {
        let feeds = from.iter().map(|(partition, after)| {
            let durable = format!("projector-{partition}");
            let description = "folds the partition into the read models".to_owned();
            let spec = Spec::partition(*partition, durable, description);
            let opening = Feed::open(log.clone(), spec, *after);
            async move { Ok((*partition, *after, opening.await?)) }
        });
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let mut tasks = JoinSet::new();
        let mut committed = BTreeMap::new();
        for (partition, after, feed) in try_join_all(feeds).await? {
            let (tell, told) = watch::channel(after);
            committed.insert(partition, tell);
            tasks.spawn(follow(partition, feed, sender.clone(), told));
        }
        Ok(Self {
            chunks,
            _open: sender,
            held: VecDeque::new(),
            held_bytes: 0,
            committed,
            tasks,
        })
    }

    /// What has arrived, at most `max` events; waits for the first, and for more until `not_before` while there is room.
    /// Safe to cancel.
    ///
    /// # Errors
    /// When a feed cannot go on.
    pub async fn take(
        &mut self,
        max: usize,
        not_before: Instant,
    ) -> Result<Vec<Event>, reader::Error> {
        while self.held.is_empty() {
            tokio::select! {
                Some(chunk) = self.chunks.recv() => self.hold(chunk),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Err(error)) => return Err(error),
                    Err(panicked) => resume_unwind(panicked.into_panic()),
                },
            }
        }
        self.hold_what_is_here(max);
        if self.has_room(max) && Instant::now() < not_before {
            // What comes meanwhile stays in the channel and in the feeds: nobody is woken for each of it.
            sleep_until(not_before).await;
            self.hold_what_is_here(max);
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < max && bytes < BATCH_BYTES {
            let Some(event) = self.held.pop_front() else {
                break;
            };
            bytes += event.stored.payload.len();
            events.push(event);
        }
        self.held_bytes -= bytes;
        Ok(events)
    }

    fn hold_what_is_here(&mut self, max: usize) {
        while self.has_room(max)
            && let Ok(chunk) = self.chunks.try_recv()
        {
            self.hold(chunk);
        }
    }

    fn hold(&mut self, chunk: Chunk) {
        self.held_bytes += chunk
            .iter()
            .map(|event| event.stored.payload.len())
            .sum::<usize>();
        self.held.extend(chunk);
    }

    fn has_room(&self, max: usize) -> bool {
        self.held.len() < max && self.held_bytes < BATCH_BYTES
    }

    /// Everything of `partition` up to `sequence` is in the tables: its feed may acknowledge.
    pub fn committed(&self, partition: Partition, sequence: u64) {
        if let Some(committed) = self.committed.get(&partition) {
            committed.send_replace(sequence);
        }
    }
}

/// Hands over what the feed brings, and acknowledges what was committed.
async fn follow(
    partition: Partition,
    mut feed: Feed,
    chunks: mpsc::Sender<Chunk>,
    mut committed: watch::Receiver<u64>,
) -> Result<Infallible, reader::Error> {
    loop {
        let first = tokio::select! {
            biased;
            Ok(()) = committed.changed() => {
                let sequence = *committed.borrow_and_update();
                feed.folded(sequence).await;
                continue;
            }
            first = feed.next() => first?,
        };
        let chunk = gather(partition, &mut feed, first)?;
        if chunks.send(chunk).await.is_err() {
            // The session is over, and this task with it in a moment.
            std::future::pending::<()>().await;
        }
    }
}

/// `first` and what else is at hand.
fn gather(partition: Partition, feed: &mut Feed, first: Stored) -> Result<Chunk, reader::Error> {
    let (mut chunk, mut bytes) = (Chunk::new(), 0);
    let mut next = Some(first);
    while let Some(stored) = next {
        bytes += stored.payload.len();
        chunk.push(Event::read(partition, stored));
        if chunk.len() >= CHUNK || bytes >= CHUNK_BYTES {
            break;
        }
        next = feed.next().now_or_never().transpose()?;
    }
    Ok(chunk)
}
