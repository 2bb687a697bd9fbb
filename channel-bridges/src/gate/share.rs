//! What this process may do, of what the account may do: its share of concurrency and rate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Calls that may go out at once after a silence, as a share of a second's worth.
const BURST_S: f64 = 0.1;

/// Places for calls, and the pace at which they begin.
#[derive(Debug)]
pub struct Share {
    places: Arc<Semaphore>,
    limits: Mutex<Limits>,
    concurrency: usize,
    rate_per_s: u64,
}

#[derive(Debug)]
struct Limits {
    places: usize,
    /// Places to be taken away as they come back.
    debt: usize,
    /// Between two calls.
    interval: Duration,
    /// When the next call would be due at an even pace.
    due: Instant,
}

impl Share {
    /// A share of nothing, before [`Share::of`].
    pub fn new(concurrency: usize, rate_per_s: u64) -> Self {
        Self {
            places: Arc::new(Semaphore::new(0)),
            limits: Mutex::new(Limits {
                places: 0,
                debt: 0,
                interval: Duration::from_secs(1),
                due: Instant::now(),
            }),
            concurrency,
            rate_per_s,
        }
    }

    /// This process owns `owned` of `all` partitions: that is its share, at least one call at a time.
    pub fn of(&self, owned: usize, all: usize) {
        let all = all.max(1);
        let places = match owned {
            0 => 0,
            _ => (self.concurrency * owned / all).max(1),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate of at most 100,000 per second"
        )]
        let rate = self.rate_per_s as f64 * owned.max(1) as f64 / all as f64;
        let mut limits = self.limits();
        limits.interval = Duration::from_secs_f64(1.0 / rate);
        if places >= limits.places {
            let more = places - limits.places;
            let paid = more.min(limits.debt);
            limits.debt -= paid;
            self.places.add_permits(more - paid);
        } else {
            let fewer = limits.places - places;
            limits.debt += fewer - self.places.forget_permits(fewer);
        }
        limits.places = places;
    }

    /// Waits for a place.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        let places = Arc::clone(&self.places);
        places
            .acquire_owned()
            .await
            .expect("this semaphore is never closed")
    }

    /// Gives a place back, or away when there is one too many.
    pub fn left(&self, place: OwnedSemaphorePermit) {
        let mut limits = self.limits();
        if limits.debt > 0 {
            limits.debt -= 1;
            place.forget();
        }
    }

    /// When the next call may go out, and takes that moment.
    pub fn slot(&self) -> Instant {
        let mut limits = self.limits();
        let now = Instant::now();
        // An even pace, with a little credit for silence.
        let credit = Duration::from_secs_f64(BURST_S);
        let due = limits.due.max(now.checked_sub(credit).unwrap_or(now));
        limits.due = due + limits.interval;
        due
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(share: &Share) -> usize {
        share.places.available_permits()
    }

    #[tokio::test]
    async fn concurrency_is_split_by_owned_partitions_and_follows_them() {
        let share = Share::new(64, 80);
        assert_eq!(free(&share), 0);
        for (owned, places) in [(8, 64), (4, 32), (1, 8), (3, 24), (0, 0), (8, 64)] {
            share.of(owned, 8);
            assert_eq!(free(&share), places, "{owned} of 8");
        }
        let narrow = Share::new(2, 80);
        narrow.of(1, 8);
        assert_eq!(free(&narrow), 1, "at least one call at a time");
    }

    #[tokio::test]
    async fn places_that_are_taken_are_given_up_when_they_come_back() {
        let share = Share::new(8, 80);
        share.of(8, 8);
        let mut taken = Vec::new();
        for _ in 0..8 {
            taken.push(share.place().await);
        }
        share.of(2, 8);
        for place in taken.drain(..6) {
            share.left(place);
        }
        assert_eq!(free(&share), 0, "six were too many");
        taken.drain(..).for_each(|place| share.left(place));
        assert_eq!(free(&share), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_split_by_owned_partitions() {
        for (owned, per_second) in [(8_u32, 80), (4, 40), (1, 10)] {
            let share = Share::new(64, 80);
            share.of(usize::try_from(owned).unwrap(), 8);
            let first = share.slot();
            let mut last = first;
            for _ in 0..per_second {
                last = share.slot();
            }
            let took = last - first;
            assert!(
                took.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1),
                "{per_second} calls in {took:?} with {owned} of 8"
            );
        }
    }
}
