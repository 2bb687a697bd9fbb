//! What became of appends that were not simply acknowledged, counted by what the broker answered and by what the leader
//! then showed.
//!
//! The two belong together: 10071 after a lost acknowledgement is our own message, 10164 from a cluster may be nobody's.
//!
//! Source: docs/adr/0003-append.md.

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::jetstream::ErrorCode;

/// What the broker answered to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 10071: the subject's last sequence is another one.
    WrongRevision,
    /// 10164, from clusters: another message on the subject is under way, or was.
    Contested,
    /// 10158, from clusters: this message is under way.
    InFlight,
    /// Another error: no stream here, no leader, no room.
    Other,
    /// None in time.
    Silence,
}

/// What the leader then showed behind the expected revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Somebody else's message: a conflict.
    Another,
    /// Ours: the acknowledgement was lost.
    Ours,
    /// Nothing: it is published again.
    Nothing,
}

impl Answer {
    /// Every answer.
    pub const ALL: [Self; 5] = [
        Self::WrongRevision,
        Self::Contested,
        Self::InFlight,
        Self::Other,
        Self::Silence,
    ];

    /// The broker's code, or a word, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongRevision => "10071",
            Self::Contested => "10164",
            Self::InFlight => "10158",
            Self::Other => "other",
            Self::Silence => "none",
        }
    }

    pub(crate) fn of(code: Option<ErrorCode>) -> Self {
        match code {
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE) => Self::WrongRevision,
            Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => Self::Contested,
            Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT) => Self::InFlight,
            Some(_) => Self::Other,
            None => Self::Silence,
        }
    }
}

impl Found {
    /// Everything that can be found.
    pub const ALL: [Self; 3] = [Self::Another, Self::Ours, Self::Nothing];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Another => "another",
            Self::Ours => "ours",
            Self::Nothing => "nothing",
        }
    }
}

/// The counts of one log, since it was opened.
#[derive(Debug, Default)]
pub struct Resolved([[AtomicU64; Found::ALL.len()]; Answer::ALL.len()]);

impl Resolved {
    /// How often this answer came to that.
    pub fn count(&self, answer: Answer, found: Found) -> u64 {
        self.0[answer as usize][found as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, answer: Answer, found: Found) {
        self.0[answer as usize][found as usize].fetch_add(1, Ordering::Relaxed);
    }
}
