//! The circuit breaker's memory: how an account's last calls went, in this process. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When a breaker opens.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    /// It looks at so many of the last calls. At least 1.
    pub calls: usize,
    /// So many in a hundred must have failed …
    pub failing_percent: u64,
    /// … and all of them ended within this time.
    pub within: Duration,
    /// How long it stays open; then one message tries.
    pub open_for: Duration,
}

/// How the last calls went.
#[derive(Debug, Default)]
pub struct Window {
    calls: VecDeque<(Instant, bool)>,
}

impl Window {
    /// One more call ended. When that is one too many: how many of how many failed, and the window is empty again.
    pub fn ended(
        &mut self,
        now: Instant,
        failed: bool,
        breaker: &Breaker,
    ) -> Option<(usize, usize)> {
        while self.calls.len() >= breaker.calls {
            self.calls.pop_front();
        }
        self.calls.push_back((now, failed));
        let (oldest, _) = self.calls.front()?;
        if !failed || self.calls.len() < breaker.calls || now - *oldest > breaker.within {
            return None;
        }
        let (failed, of) = (
            self.calls.iter().filter(|(_, failed)| *failed).count(),
            self.calls.len(),
        );
        let enough = failed as u64 * 100 >= breaker.failing_percent * of as u64;
        enough.then(|| {
            self.calls.clear();
            (failed, of)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker {
        calls: 20,
        failing_percent: 50,
        within: Duration::from_secs(30),
        open_for: Duration::from_secs(30),
    };

    /// What the window says at the end of calls that ended `every` after each other, `true` for those that failed.
    fn last(every: Duration, calls: impl Iterator<Item = bool>) -> Option<(usize, usize)> {
        let (mut window, mut now) = (Window::default(), Instant::now());
        let mut said = None;
        for failed in calls {
            said = window.ended(now, failed, &BREAKER);
            now += every;
        }
        said
    }

    #[test]
    fn half_of_the_last_twenty_open_it_and_one_less_does_not() {
        let second = Duration::from_secs(1);
        let alternating = (0..20).map(|i| i % 2 == 1);
        assert_eq!(last(second, alternating), Some((10, 20)));
        let nine = (0..20).map(|i| i >= 11);
        assert_eq!(last(second, nine), None);
        assert_eq!(last(second, (0..19).map(|_| true)), None, "too few calls");
    }

    #[test]
    fn calls_that_took_longer_than_half_a_minute_together_say_nothing() {
        let slow = Duration::from_millis(1_600);
        assert_eq!(last(slow, (0..60).map(|_| true)), None);
        let just = Duration::from_millis(1_500);
        assert_eq!(last(just, (0..20).map(|_| true)), Some((20, 20)));
    }

    #[test]
    fn only_a_failure_opens_it_and_then_it_counts_anew() {
        let second = Duration::from_secs(1);
        let failed_then_well = (0..20).map(|i| i < 19);
        assert_eq!(last(second, failed_then_well), None);
        assert_eq!(last(second, (0..21).map(|_| true)), None, "one after 20");
        assert_eq!(last(second, (0..40).map(|_| true)), Some((20, 20)));
    }
}
