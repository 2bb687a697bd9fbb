//! What waits for one subscriber: bounded, and empty most of the time.
//!
//! Guarantee: it holds at most [`MAX_ENTRIES`], of about [`MAX_BYTES`] together. One more, and the subscriber is overtaken: what
//! waits is let go at once, and the subscriber is told to resume from the last thing it was given.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;

use super::entry::Entry;

/// Entries that may wait.
pub const MAX_ENTRIES: usize = 256;
/// Their size on the log, in bytes; a single entry may be larger.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Why nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did not take what there was.
    Overtaken,
    /// Who watches has left the conversation.
    Left,
    /// The log is not the same any more.
    LogChanged,
}

/// One subscriber's queue: filled by the hub, emptied by the subscriber.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    end: Option<End>,
}

impl Queue {
    /// Adds `entry`; `false` when that is one too many, once.
    pub fn push(&self, entry: &Arc<Entry>) -> bool {
        let mut state = self.lock();
        if state.end.is_some() {
            return true;
        }
        let bytes = state.bytes + entry.size_bytes;
        let fits =
            state.entries.is_empty() || (state.entries.len() < MAX_ENTRIES && bytes <= MAX_BYTES);
        if fits {
            state.entries.push_back(Arc::clone(entry));
            state.bytes = bytes;
        } else {
            *state = State {
                end: Some(End::Overtaken),
                ..State::default()
            };
        }
        drop(state);
        self.reader.wake();
        fits
    }

    /// Nothing more comes after what waits.
    pub fn end(&self, end: End) {
        self.lock().end.get_or_insert(end);
        self.reader.wake();
    }

    /// Whether everything that was ever added has been taken.
    pub fn is_level(&self) -> bool {
        let state = self.lock();
        state.entries.is_empty() && state.end.is_none()
    }

    /// The next entry. For one reader; safe to cancel.
    ///
    /// # Errors
    /// Why no more come.
    pub async fn next(&self) -> Result<Arc<Entry>, End> {
        poll_fn(|context| {
            self.reader.register(context.waker());
            let mut state = self.lock();
            match (state.entries.pop_front(), state.end) {
                (Some(entry), _) => {
                    state.bytes = state.bytes.saturating_sub(entry.size_bytes);
                    if state.entries.is_empty() {
                        // Idle subscribers are many: a burst must not stay with each of them.
                        state.entries = VecDeque::new();
                    }
                    Poll::Ready(Ok(entry))
                }
                (None, Some(end)) => Poll::Ready(Err(end)),
                (None, None) => Poll::Pending,
            }
        })
        .await
    }

    /// The state is whole at every unlock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size_bytes: usize) -> Arc<Entry> {
        Arc::new(Entry::of_size(size_bytes))
    }

    /// What is there, without waiting.
    fn take(queue: &Queue) -> Option<Result<usize, End>> {
        let next = std::pin::pin!(queue.next());
        match next.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(taken) => Some(taken.map(|entry| entry.size_bytes)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_entry_too_many_ends_it_and_lets_go_of_what_waits() {
        let queue = Queue::default();
        let each = entry(1);
        for _ in 0..MAX_ENTRIES {
            assert!(queue.push(&each));
        }
        assert_eq!(Arc::strong_count(&each), MAX_ENTRIES + 1);
        assert!(!queue.push(&each));
        assert_eq!(Arc::strong_count(&each), 1, "nothing is kept");
        assert!(queue.push(&each), "it is told once");
        assert_eq!(Arc::strong_count(&each), 1, "nothing is kept any more");
        assert_eq!(take(&queue), Some(Err(End::Overtaken)));
    }

    #[test]
    fn one_byte_too_many_does_the_same_and_a_single_large_entry_fits() {
        let queue = Queue::default();
        assert!(queue.push(&entry(2 * MAX_BYTES)));
        assert_eq!(take(&queue), Some(Ok(2 * MAX_BYTES)));
        assert!(queue.push(&entry(MAX_BYTES - 1)));
        assert!(queue.push(&entry(1)));
        assert!(!queue.push(&entry(1)));
        assert_eq!(take(&queue), Some(Err(End::Overtaken)));
    }

    #[test]
    fn what_is_taken_makes_room() {
        let queue = Queue::default();
        for _ in 0..3 * MAX_ENTRIES {
            assert!(queue.push(&entry(MAX_BYTES)));
            assert_eq!(take(&queue), Some(Ok(MAX_BYTES)));
        }
        assert_eq!(take(&queue), None);
        queue.end(End::Left);
        assert_eq!(take(&queue), Some(Err(End::Left)));
    }
}
