//! Which requests are under way, and how each has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use reqwest::StatusCode;

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered(StatusCode),
    /// The other side went away in the middle of it.
    Cut,
    /// There was nobody, or nobody answered.
    Failed,
}

impl End {
    pub fn of<T>(answer: &Result<(StatusCode, T), reqwest::Error>) -> Self {
        match answer {
            Ok((status, _)) => Self::Answered(*status),
            Err(error) if error.is_connect() || error.is_timeout() => Self::Failed,
            Err(_) => Self::Cut,
        }
    }
}

/// Requests of one kind.
#[derive(Default)]
pub struct Requests(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    next: u64,
    open: BTreeSet<u64>,
    ended: BTreeMap<u64, End>,
}

impl Requests {
    /// One more is sent.
    pub fn begin(&self) -> u64 {
        let mut noted = self.noted();
        noted.next += 1;
        let number = noted.next;
        noted.open.insert(number);
        number
    }
    pub fn end(&self, number: u64, end: End) {
        let mut noted = self.noted();
        assert!(noted.open.remove(&number), "it ends once");
        noted.ended.insert(number, end);
    }

    /// Those that were sent and have not ended.
    pub fn open(&self) -> BTreeSet<u64> {
        self.noted().open.clone()
    }
    /// How many of `these` came to such an end; `None`: they have not ended yet.
    pub fn count(&self, these: &BTreeSet<u64>, wanted: impl Fn(Option<End>) -> bool) -> usize {
        let noted = self.noted();
        let ends = these.iter().map(|number| noted.ended.get(number).copied());
        ends.filter(|end| wanted(*end)).count()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap()
    }
}
