//! How long, how often and how much.

use std::time::Duration;

use super::stack::Stack;
use super::system::System;
use super::target::Target;

/// Not measured, at the beginning of each run.
pub(super) const WARM_UP: Duration = Duration::from_secs(2);

/// What all measurements are told.
#[derive(Debug)]
pub(super) struct Plan {
    /// How long each run is measured.
    pub time: Duration,
    /// How often each is repeated.
    pub rounds: u32,
    /// A tenth of the rows, events and connections.
    pub quick: bool,
    /// Envelopes on the log that is rebuilt, at least.
    pub rebuild_events: u64,
    /// The system to measure; a stack of our own if there is none.
    pub running: Option<System>,
}

impl Plan {
    /// The warm-up and the measured time of a run.
    pub fn times(&self) -> (Duration, Duration) {
        (WARM_UP, self.time)
    }

    /// So many, or a tenth for a quick look.
    pub fn scaled(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }

    /// The running system; else a stack with these settings.
    ///
    /// # Errors
    /// The stack does not start.
    pub async fn target(&self, settings: &[(&str, &str)]) -> anyhow::Result<Target> {
        Ok(match &self.running {
            Some(system) => Target::Running(system.clone()),
            None => Target::Own(Stack::start(settings).await?),
        })
    }

    /// What so many runs take, warm-ups included.
    pub fn runs(&self, count: u32) -> Duration {
        (WARM_UP + self.time) * count
    }
}
