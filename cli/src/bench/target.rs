//! What a measurement works on: a stack of its own, or the running system that was named.

use std::ops::Deref;

use super::stack::Stack;
use super::system::System;

/// One or the other.
#[derive(Debug)]
pub(super) enum Target {
    Own(Stack),
    Running(System),
}

impl Deref for Target {
    type Target = System;
    fn deref(&self) -> &System {
        match self {
            Self::Own(stack) => stack,
            Self::Running(system) => system,
        }
    }
}

impl Target {
    /// Stops what was started; a system that ran before runs on.
    ///
    /// # Errors
    /// It had to be killed.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Own(stack) => stack.stop().await,
            Self::Running(_) => Ok(()),
        }
    }
}
