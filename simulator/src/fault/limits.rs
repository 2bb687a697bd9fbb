//! What the limits have counted: who wrote in when, how fast a pair and a business number talk. Bounded: what says
//! nothing any more is forgotten first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

type Pair = (String, String);

/// Tokens of one (business, customer) pair; `at` is when they were counted.
struct Bucket {
    tokens: f64,
    at: Instant,
}

pub(super) struct Limits {
    heard: HashMap<Pair, Instant>,
    pairs: HashMap<Pair, Bucket>,
    sends: HashMap<String, VecDeque<Instant>>,
    limit: usize,
}

fn pair(phone_number_id: &str, number: &str) -> Pair {
    (phone_number_id.to_owned(), number.to_owned())
}

impl Limits {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            heard: HashMap::new(),
            pairs: HashMap::new(),
            sends: HashMap::new(),
            limit: limit.max(1),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    pub(super) fn heard_from(&mut self, phone_number_id: &str, number: &str) {
        let now = Instant::now();
        if self.heard.len() >= self.limit {
            let half: Instant = median(self.heard.values().copied(), now);
            self.heard.retain(|_, at| *at > half);
        }
        self.heard.insert(pair(phone_number_id, number), now);
    }

    /// Whether the customer wrote in within `window`.
    pub(super) fn window_open(
        &self,
        phone_number_id: &str,
        number: &str,
        window: Duration,
    ) -> bool {
        self.heard
            .get(&pair(phone_number_id, number))
            .is_some_and(|at| at.elapsed() <= window)
    }

    /// Takes one token of the pair's bucket, if there is one.
    pub(super) fn pair_allows(
        &mut self,
        phone_number_id: &str,
        number: &str,
        burst: u32,
        every: Duration,
        now: Instant,
    ) -> bool {
        if self.pairs.len() >= self.limit {
            let half = median(self.pairs.values().map(|bucket| bucket.at), now);
            self.pairs.retain(|_, bucket| bucket.at > half);
        }
        let bucket = self
            .pairs
            .entry(pair(phone_number_id, number))
            .or_insert(Bucket {
                tokens: f64::from(burst),
                at: now,
            });
        let refilled = now.duration_since(bucket.at).as_secs_f64() / every.as_secs_f64();
        bucket.tokens = (bucket.tokens + refilled).min(f64::from(burst));
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Whether fewer than `per_second` messages left this business number in the last second; counts this one if so.
    pub(super) fn throughput_allows(
        &mut self,
        phone_number_id: &str,
        per_second: u32,
        now: Instant,
    ) -> bool {
        let sends = self.sends.entry(phone_number_id.to_owned()).or_default();
        while sends
            .front()
            .is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1))
        {
            sends.pop_front();
        }
        let allowed = sends.len() < per_second as usize;
        if allowed {
            sends.push_back(now);
        }
        allowed
    }
}

/// The older half lies at or before it.
fn median(times: impl Iterator<Item = Instant>, otherwise: Instant) -> Instant {
    let mut times: Vec<_> = times.collect();
    let middle = times.len() / 2;
    if times.is_empty() {
        otherwise
    } else {
        *times.select_nth_unstable(middle).1
    }
}
