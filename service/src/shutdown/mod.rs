//! Stopping in two stages, with an honest exit code.
//!
//! *Soft*: take nothing new, finish what is in flight, acknowledge it. *Hard*: drop what is left; the log hands it to
//! somebody else. SIGINT or SIGTERM asks for the first; the end of the grace, or a second signal, for the other.

mod run;

use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error};

pub use run::{Outcome, run};

use crate::chain::Chain;

/// Tells a role's loops when to stop, and knows their tasks; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    deaths: Arc<AtomicUsize>,
}

impl Shutdown {
    /// Nobody has asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when nothing new is to be started.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when there is no more time: whatever waits for anything should return.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Asks everything to stop softly, as a signal would.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// How many tasks ended with an error or a panic.
    pub fn deaths(&self) -> usize {
        self.deaths.load(Ordering::Relaxed)
    }

    /// Runs a part of the role beside the others, within the current span. A role does not limp: if the part fails or
    /// panics, that is logged, the whole role stops softly, and its exit code says so. At the hard stage the task is dropped where it
    /// waits.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + Send,
    {
        let shutdown = self.clone();
        let watched = async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            let ended = tokio::select! {
                ended = task => ended,
                () = shutdown.hard.cancelled() => return,
            };
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(cause)) => {
                    let cause = cause.into();
                    error!(task = name, error = %Chain(&*cause), "task `{name}` failed; stopping");
                }
                // What it said is on standard error already, from the panic hook.
                Err(_panic) => error!(task = name, "task `{name}` panicked; stopping"),
            }
            shutdown.deaths.fetch_add(1, Ordering::Relaxed);
            shutdown.soft.cancel();
        };
        self.tasks.spawn(watched.instrument(Span::current()));
    }

    /// Waits until every spawned task has ended; call it after asking them to stop.
    pub async fn tasks_ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
