//! What came while nobody listened: a part of a lane, read from the log, on one or several subjects.

use std::collections::VecDeque;
use std::sync::Arc;

use chat4all_nats::Stored;
use chat4all_nats::range::Range;
use chat4all_service::Chain;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use super::hub::{Hub, PAUSE, READ_TIMEOUT};
use super::lane::Lane;

/// Reads of all subscriptions together that are under way at a time: after a restart everybody comes back at once.
const AT_A_TIME: usize = 16;

/// A turn to read.
#[derive(Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

/// A part of a lane, in order. Holds at most some 64 KiB, or one message, per subject.
pub struct CatchUp {
    up_to: u64,
    subjects: Vec<OneSubject>,
}

struct OneSubject {
    subject: String,
    from: u64,
    ready: VecDeque<Stored>,
    /// It holds no more up to the end.
    done: bool,
}

impl CatchUp {
    /// From `from` to `up_to`, both included, on `subjects` that have nothing in common.
    pub fn new(subjects: Vec<String>, from: u64, up_to: u64) -> Self {
        let one = |subject| OneSubject {
            subject,
            from,
            ready: VecDeque::new(),
            done: false,
        };
        let subjects = subjects.into_iter().map(one).collect();
        Self { up_to, subjects }
    }

    /// The next message; waits while the log is away.
    pub async fn next(&mut self, hub: &Hub, lane: &Lane, turns: &Turns) -> Option<Stored> {
        for one in &mut self.subjects {
            while one.ready.is_empty() && !one.done {
                one.read(hub, lane, turns, self.up_to).await;
            }
        }
        let heads = self.subjects.iter_mut();
        let first = heads
            .filter(|one| !one.ready.is_empty())
            .min_by_key(|one| one.ready.front().map(|stored| stored.sequence))?;
        first.ready.pop_front()
    }
}

impl OneSubject {
    async fn read(&mut self, hub: &Hub, lane: &Lane, turns: &Turns, up_to: u64) {
        // A task of its own: a client that does not take what it is told must not keep a turn from others meanwhile.
        let (turns, log) = (Arc::clone(&turns.0), hub.log.clone());
        let (stream, subject, from) = (lane.stream.clone(), self.subject.clone(), self.from);
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let range = Range {
                stream: &stream,
                subject: &subject,
                from,
                up_to,
            };
            log.read_range(range, Instant::now() + READ_TIMEOUT).await
        });
        let found = match reading.join_next().await.expect("one was begun") {
            Ok(found) => found,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        match found {
            Ok(batch) => {
                match batch.last() {
                    Some(last) => self.from = last.sequence + 1,
                    None => self.done = true,
                }
                self.done |= self.from > up_to;
                self.ready.extend(batch);
            }
            Err(error) => {
                debug!(stream = lane.stream, error = %Chain(&error), "catching up waits for {}", lane.stream);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
