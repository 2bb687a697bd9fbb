//! Keeps the servers running, and stops them in order.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::servers::{Server, Servers};
use super::tell::Tell;
use crate::embedded::StopError;

/// First wait before a server that died is started again; doubled up to [`LONGEST_WAIT`] while it keeps dying.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A server that ran this long is not one that keeps dying.
const STABLE: Duration = Duration::from_secs(60);

/// A task per server. Dropping it kills the servers when the runtime goes.
#[derive(Debug)]
pub struct Supervisor {
    /// In the order in which they are stopped.
    keepers: Vec<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    stop: CancellationToken,
    task: JoinHandle<Result<(), StopError>>,
}

impl Supervisor {
    /// Watches over `servers` from now on.
    pub fn start(servers: Servers, tell: Tell) -> Self {
        let tracker = TaskTracker::new();
        let keep = |server| {
            let stop = CancellationToken::new();
            let task = tracker.spawn(keep_running(server, stop.clone(), tell));
            Keeper { stop, task }
        };
        Self {
            keepers: servers.own.into_iter().map(keep).collect(),
        }
    }

    /// Stops one after the other, gracefully.
    ///
    /// # Errors
    /// The first one that had to be killed; the others are stopped all the same.
    pub async fn stop(self) -> anyhow::Result<()> {
        let mut first_failure = Ok(());
        for Keeper { stop, task } in self.keepers {
            stop.cancel();
            let stopped = task
                .await
                .map_err(anyhow::Error::from)
                .and_then(|stopped| Ok(stopped?));
            first_failure = first_failure.and(stopped);
        }
        first_failure
    }
}

async fn keep_running(
    mut server: Server,
    stop: CancellationToken,
    tell: Tell,
) -> Result<(), StopError> {
    let mut wait = FIRST_WAIT;
    let mut since = Instant::now();
    loop {
        let status = tokio::select! {
            () = stop.cancelled() => return server.stop(tell).await,
            status = server.exited() => status,
        };
        let how = status.map_or_else(
            || "could not be started".to_owned(),
            |status| format!("died ({status})"),
        );
        if since.elapsed() >= STABLE {
            wait = FIRST_WAIT;
        }
        let name = server.name();
        let words =
            format!("{name} {how}; starting it again in {wait:?}, its log is log/{name}.log");
        tell.trouble("died", json!({"name": name, "how": how}), words);
        tokio::select! {
            () = stop.cancelled() => return server.stop(tell).await,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
        since = Instant::now();
        let restarted = tokio::select! {
            () = stop.cancelled() => return server.stop(tell).await,
            restarted = server.restart() => restarted,
        };
        match restarted {
            Ok(()) => tell.trouble(
                "runs_again",
                json!({ "name": name }),
                format_args!("{name} runs again"),
            ),
            Err(error) => {
                let why = error.to_string();
                let words = format!("{name} did not start again: {why}");
                tell.trouble("not_started", json!({"name": name, "why": why}), words);
            }
        }
    }
}
