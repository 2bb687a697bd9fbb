//! When everybody who could ask has asked: the moment at which batches close.
//!
//! A request's resolvers run side by side in one task, and a batch must not go out before each of them has come as far as it
//! can by itself. Yielding once is not enough to know that: when a statement's answer arrives, fifty siblings go on one after
//! the other, over several polls, and the first would load alone. So the whole request is polled here with a waker of its own:
//! as long as a poll wakes something within the request, it is polled again; when nothing moves any more, everybody waits for
//! an answer from outside or for a batch, and the batches go out. No timer, no task, and the same number of statements however
//! busy the machine is.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// The rounds of one request; all its batches share them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Rounds(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The round that is open.
    open: u64,
    /// Who waits for its end.
    waiting: Vec<Waker>,
}

/// Ends the rounds of one request. Whoever makes rounds drives what asks in them: nobody else ends them.
#[must_use = "rounds that nobody drives never end"]
pub struct Driver(Rounds);

impl Rounds {
    /// The first round, open.
    pub fn new() -> (Self, Driver) {
        let rounds = Self::default();
        (rounds.clone(), Driver(rounds))
    }

    /// The number of the round that is open.
    pub fn open(&self) -> u64 {
        self.lock().open
    }

    /// Waits until `round` has ended.
    pub async fn end_of(&self, round: u64) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.open > round {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends the open round; `false` when nobody waits for that.
    fn end(&self) -> bool {
        let waiting = {
            let mut state = self.lock();
            if state.waiting.is_empty() {
                return false;
            }
            state.open += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        true
    }

    /// The data behind a poisoned lock is still whole: every critical section here is a few moves.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    /// Does `work`, and ends a round whenever nothing in it can go on by itself. Keeps it on the heap: it holds a whole
    /// request.
    pub fn drive<T>(self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let alarm = Arc::new(Alarm::default());
        let waker = Waker::from(Arc::clone(&alarm));
        // The runtime's budget would make futures wait that could go on, and wake them later: that is not what waiting means
        // here. What one request may cost is bounded by its complexity.
        let mut work = Box::pin(tokio::task::unconstrained(work));
        poll_fn(move |outer| {
            alarm.outside.register(outer.waker());
            loop {
                alarm.rang.store(false, Ordering::Release);
                if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Poll::Ready(done);
                }
                let moves = alarm.rang.load(Ordering::Acquire) || self.0.end();
                if !moves {
                    return Poll::Pending;
                }
            }
        })
    }
}

/// Notes that something in the request can go on, and wakes the request's task.
#[derive(Default)]
struct Alarm {
    rang: AtomicBool,
    outside: AtomicWaker,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.outside.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join, join_all};

    use super::*;

    #[tokio::test]
    async fn a_round_ends_when_nothing_moves_and_not_before() {
        let (rounds, driver) = Rounds::new();
        let order = Mutex::new(Vec::new());
        let note = |what: &'static str| order.lock().unwrap().push(what);
        let asks = async {
            let round = rounds.open();
            note("asked");
            rounds.end_of(round).await;
            note("ended");
        };
        // Takes many polls, each of which wakes the next.
        let moves = async {
            for _ in 0..100 {
                let mut first = true;
                poll_fn(|context| {
                    if std::mem::take(&mut first) {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Ready(())
                })
                .await;
            }
            note("still");
        };
        driver.drive(join(asks, moves)).await;
        assert_eq!(*order.lock().unwrap(), ["asked", "still", "ended"]);
    }

    #[tokio::test]
    async fn what_comes_from_outside_wakes_the_request() {
        let (rounds, driver) = Rounds::new();
        let work = join_all((0..3).map(async |ms| {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            rounds.end_of(rounds.open()).await;
            rounds.open()
        }));
        let seen = driver.drive(work).await;
        assert!(seen.iter().all(|round| *round >= 1), "{seen:?}");
    }
}
