//! Whether a feed is level with the log, for others to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Log;

/// Whether a [`Feed`](super::Feed) is level with the log. Cheap to clone; starts as "no".
#[derive(Clone, Debug, Default)]
pub struct Current(Arc<AtomicU64>);

impl Current {
    /// Whether it is level, through the connection that `log` has now: after a reconnect it is not, until it has asked.
    pub fn holds(&self, log: &Log) -> bool {
        log.connection()
            .is_some_and(|connection| self.0.load(Ordering::Acquire) == connection)
    }
    pub(super) fn set(&self, connection: u64) {
        self.0.store(connection, Ordering::Release);
    }
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }
}
