//! Small types whose name says the unit or the choice.

use std::fmt;
use std::time::Duration;

use super::spec::{Spec, one_of};

/// A length of time, counted in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milliseconds(pub u64);

/// A length of time, counted in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u64);

impl Milliseconds {
    /// As the standard library counts.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Seconds {
    /// As the standard library counts.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl From<Milliseconds> for Duration {
    fn from(value: Milliseconds) -> Self {
        value.duration()
    }
}

impl From<Seconds> for Duration {
    fn from(value: Seconds) -> Self {
        value.duration()
    }
}

impl From<u64> for Milliseconds {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<u64> for Seconds {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

/// When the broker writes an append to disk before it acknowledges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before every acknowledgement: what was accepted survives a power cut.
    Always,
    /// Every two minutes: faster, and a power cut may take back what was acknowledged since the last one.
    Relaxed,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// One readable line, for terminals.
    Text,
}

/// What the projector does with an event it cannot fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// Puts it aside as a dead letter and goes on.
    Park,
    /// Stops its partition until somebody has looked.
    Halt,
}

/// What follows when it stays unknown whether a send went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsure {
    /// Send again: at-least-once. The recipient may get it twice.
    Resend,
    /// Give up: at-most-once. It shows as FAILED, and a redrive sends it again.
    Fail,
}

pub(crate) fn unsure() -> Spec<Unsure> {
    one_of(&[("resend", Unsure::Resend), ("fail", Unsure::Fail)])
}

pub(crate) fn sync() -> Spec<Sync> {
    one_of(&[("always", Sync::Always), ("relaxed", Sync::Relaxed)])
}

pub(crate) fn log_format() -> Spec<LogFormat> {
    one_of(&[("json", LogFormat::Json), ("text", LogFormat::Text)])
}

pub(crate) fn poison() -> Spec<Poison> {
    one_of(&[("park", Poison::Park), ("halt", Poison::Halt)])
}
