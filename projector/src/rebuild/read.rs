//! One partition from its first event to its last, ahead of who folds it: no durable, because those belong to the live projectors.
//!
//! A long stretch comes through a feed, whose consumer the broker forgets: that costs the broker about half of what direct gets
//! do. For a short one, those under the lock among them, a consumer is not worth making.

use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_nats::reader::{self, Feed, Keep, Spec};
use chat4all_nats::{Log, ReadError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::batch::Event;

/// Chunks of at most 500 events that wait to be folded, per partition.
const AHEAD: usize = 8;
/// Events of a chunk, at most.
const CHUNK: usize = 500;
/// About how many bytes of payload a chunk has, at most.
const CHUNK_BYTES: usize = 1024 * 1024;
/// A stretch of so many events is a long one.
const LONG: u64 = 1_000;
/// The pause before asking again for what a replica does not have yet.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log did not answer in time.
    #[error("failed to read partition {partition}")]
    Read {
        /// The partition.
        partition: Partition,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// The log cannot be followed.
    #[error("failed to follow partition {partition}")]
    Follow {
        /// The partition.
        partition: Partition,
        /// Why not.
        #[source]
        source: reader::Error,
    },
    /// The log has events up to a place, and does not give them.
    #[error("the log does not give what stands behind {at} in partition {partition}")]
    Withheld {
        /// The partition.
        partition: Partition,
        /// The last event that it gave.
        at: u64,
    },
}

/// Events that were read together.
pub(super) struct Chunk {
    pub events: Vec<Event>,
    /// How many bytes of payload they had on the log.
    pub bytes: usize,
}

/// What is kept of an event that can be folded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// What it says.
    Slim,
    /// How it stands on the log, too: for one that may become a dead letter.
    Whole,
}

/// Sends the events behind `after` up to `to`, in order and at most `most` at a time, until all are sent or nobody listens.
///
/// # Errors
/// See [`Error`]; nothing new for `patience` is one.
pub(super) async fn read(
    (log, partition, form): (Log, Partition, Form),
    (mut after, to): (u64, u64),
    (patience, most): (Duration, usize),
    chunks: mpsc::Sender<Chunk>,
) -> Result<(), Error> {
    let most = most.clamp(1, CHUNK);
    let mut give_up = Instant::now() + patience;
    let unfollowed = |source| Error::Follow { partition, source };
    let mut feed = match to.saturating_sub(after) {
        LONG.. => Some(follow(&log, partition, after).await.map_err(unfollowed)?),
        0..LONG => None,
    };
    while after < to {
        let mut read = match &mut feed {
            Some(feed) => match timeout_at(give_up, feed.next_batch(most, CHUNK_BYTES)).await {
                Ok(read) => read.map_err(unfollowed)?,
                Err(_) => vec![],
            },
            None => {
                let read = log.read(partition, after + 1, give_up).await;
                read.map_err(|source| Error::Read { partition, source })?
            }
        };
        read.retain(|stored| stored.sequence <= to);
        read.truncate(most);
        let Some(last) = read.last() else {
            if Instant::now() >= give_up {
                return Err(Error::Withheld {
                    partition,
                    at: after,
                });
            }
            sleep(PAUSE).await;
            continue;
        };
        after = last.sequence;
        let bytes = read.iter().map(|stored| stored.payload.len()).sum();
        let event = |stored| match (Event::read(partition, stored), form) {
            (event, Form::Slim) => event.slim(),
            (event, Form::Whole) => event,
        };
        let events = read.into_iter().map(event).collect();
        if chunks.send(Chunk { events, bytes }).await.is_err() {
            break;
        }
        // Counted from here: that folding takes its time is not the log's fault.
        give_up = Instant::now() + patience;
    }
    Ok(())
}

async fn follow(log: &Log, partition: Partition, after: u64) -> Result<Feed, reader::Error> {
    let spec = Spec {
        keep: Keep::WhileFollowed,
        ..Spec::partition(
            partition,
            format!("rebuild-{partition}-{}", Uuid::now_v7().simple()),
            "chat4all rebuild".to_owned(),
        )
    };
    Feed::open(log.clone(), spec, after).await
}

/// A reader at work, and what it brings.
pub(super) fn ahead() -> (mpsc::Sender<Chunk>, mpsc::Receiver<Chunk>) {
    mpsc::channel(AHEAD)
}
