//! One partition from the log itself, ahead of who folds it: no durable, because those belong to the live projectors.

use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_nats::reader::Scan;
use chat4all_nats::{Log, ReadError};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::batch::Event;

/// Chunks of at most 500 events that wait to be folded, per partition.
const AHEAD: usize = 8;
/// From so many events on it is worth asking the broker for a consumer.
const SCAN_FROM: u64 = 1_000;
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
    /// The log has events up to a place, and does not give them.
    #[error("the log does not give what stands behind {at} in partition {partition}")]
    Withheld {
        /// The partition.
        partition: Partition,
        /// The last event that it gave.
        at: u64,
    },
}

/// Sends the events behind `after` up to `to`, in order and at most `most` at a time, until all are sent or nobody listens.
///
/// # Errors
/// See [`Error`]; nothing new for `patience` is one.
pub(super) async fn read(
    (log, partition): (Log, Partition),
    (mut after, to): (u64, u64),
    (patience, most): (Duration, usize),
    chunks: mpsc::Sender<Vec<Event>>,
) -> Result<(), Error> {
    let mut give_up = Instant::now() + patience;
    let mut scan = match to.saturating_sub(after) {
        SCAN_FROM.. => Some(Scan::behind(log.clone(), partition, after).await),
        0..SCAN_FROM => None,
    };
    'reading: while after < to {
        let read = match &mut scan {
            Some(scan) => scan.next(give_up).await,
            None => log.read(partition, after + 1, give_up).await,
        };
        let mut read = read.map_err(|source| Error::Read { partition, source })?;
        read.retain(|stored| stored.sequence <= to);
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
        give_up = Instant::now() + patience;
        let events = read.into_iter();
        let mut events = events.map(|stored| Event::read(partition, stored));
        loop {
            let chunk: Vec<_> = events.by_ref().take(most.max(1)).collect();
            if chunk.is_empty() {
                break;
            }
            if chunks.send(chunk).await.is_err() {
                break 'reading;
            }
        }
    }
    if let Some(scan) = scan {
        scan.close().await;
    }
    Ok(())
}

/// A reader at work, and what it brings.
pub(super) fn ahead() -> (mpsc::Sender<Vec<Event>>, mpsc::Receiver<Vec<Event>>) {
    mpsc::channel(AHEAD)
}
