//! What a command needs to know besides itself.

use chat4all_domain::Timestamp;
use tokio::time::Instant;

/// What a command needs to know besides itself.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time now: when the events are recorded.
    pub now: Timestamp,
    /// Until when the caller waits.
    pub deadline: Instant,
    /// How many lost races to put up with.
    pub retry: Retry,
    /// W3C trace context of the caller, `00-<trace>-<span>-01`.
    pub traceparent: Option<String>,
    /// What it is for, when the log is nearly full.
    pub purpose: Purpose,
    /// What to assume about an aggregate that is not in the cache.
    pub assume: Assume,
}

/// How many lost races to put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// [`API_RETRIES`](super::API_RETRIES), then [`Error::Conflict`](super::Error::Conflict).
    Api,
    /// As many as fit before the deadline: bridges, inbound, jobs.
    UntilDeadline,
}

/// What an append is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Takes something new in: refused from 95 % of the log's size on.
    Accept,
    /// Says what became of something: fits until the log is full.
    Outcome,
}

/// What to assume about an aggregate that is not in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assume {
    /// Nothing: load it.
    Nothing,
    /// That it has no events: most commands create it. Saves the load; the expected revision 0 checks it.
    Absent,
}
