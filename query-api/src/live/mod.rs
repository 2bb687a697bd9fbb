//! Following live: what happens, shown to those it is for as soon as it is on the log.
//!
//! One follower per lane (a partition, or the stream of what was put aside) decodes each message once and puts it into the
//! queues of the subscriptions it is for ([`hub`], [`registry`]). Nothing here reads rows: what is shown, and who may see it,
//! is what the log says, so that an update may come before its row, and comes while Postgres is away.
//!
//! Guarantees: a subscription gives every entry that is for it once, in the order of its lane; who resumes from a cursor gets
//! what came behind it, without a gap and without a double, whatever process gave the cursor. A subscriber that does not take
//! what there is never makes the process grow: it is told to resume ([`queue`]).
//!
//! Three transports: subscriptions over WebSocket ([`socket`]), server-sent events ([`events`]), and plain notifications.
//!
//! Source: docs/adr/0017-following-live.md.

mod begin;
mod behind;
mod body;
mod catch_up;
mod cursor;
mod entry;
mod events;
mod hub;
mod interest;
mod lane;
mod members;
mod metrics;
mod queue;
mod registry;
mod socket;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use chat4all_nats::Log;
use chat4all_service::Problem;
use chat4all_service::problem::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use catch_up::Turns;
use hub::Hub;

pub(crate) use begin::ended;
pub use entry::{Entry, What};
pub use events::routes;
pub use metrics::Metrics;
pub use queue::End;
pub use registry::Topic;
pub use socket::{graphql, notifications};
pub use subscription::{Subscription, Update};

/// When trying again makes sense.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What following live may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time, all transports together; more are 503.
    pub connections: usize,
}

/// Follows the log on behalf of everybody who is connected; a cheap handle.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    hub: watch::Sender<Option<Arc<Hub>>>,
    metrics: Metrics,
    turns: Turns,
    connections: Arc<Semaphore>,
    open: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

/// One open connection; counted until it is dropped.
pub(crate) struct Connection {
    _permit: OwnedSemaphorePermit,
    _open: metrics::Open,
    _task: TaskTrackerToken,
}

impl Live {
    /// Nobody follows yet: subscriptions are 503 until [`Live::run`]. At `stop` every connection is closed.
    pub fn new(limits: Limits, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            hub: watch::Sender::new(None),
            metrics: Metrics::default(),
            turns: Turns::default(),
            connections: Arc::new(Semaphore::new(limits.connections)),
            open: TaskTracker::new(),
            stop,
        }))
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Follows `log` until it is stopped, and then until every connection is closed.
    ///
    /// # Errors
    /// A follower has died: subscribers would hear nothing any more, and not know it.
    pub async fn run(self, log: Log) -> Result<(), JoinError> {
        let hub = Arc::new(Hub::new(log, self.0.metrics.clone()));
        self.0.hub.send_replace(Some(Arc::clone(&hub)));
        let mut lanes = JoinSet::new();
        for lane in 0..hub.lanes.len() {
            let (hub, stop) = (Arc::clone(&hub), self.0.stop.clone());
            lanes.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = hub.follow(&hub.lanes[lane]) => {}
                }
            });
        }
        while let Some(ended) = lanes.join_next().await {
            ended?;
        }
        self.0.open.close();
        self.0.open.wait().await;
        Ok(())
    }

    /// What is missing for subscriptions to be possible, in a sentence.
    ///
    /// # Errors
    /// That sentence.
    pub fn check(&self) -> Result<(), String> {
        let hub = self.0.hub.borrow();
        let Some(hub) = hub.as_ref() else {
            return Err("the log is not there yet: subscriptions are 503".to_owned());
        };
        let lanes = hub.lanes.iter();
        let waiting = lanes.filter(|lane| lane.is_wanted() && lane.shown().is_none());
        let waiting: Vec<_> = waiting.map(|lane| lane.stream.as_str()).collect();
        if waiting.is_empty() && hub.log.is_connected() {
            return Ok(());
        }
        Err(match waiting.as_slice() {
            [] => "the broker is away: subscriptions stand still".to_owned(),
            streams => format!(
                "not following {} yet: subscriptions are 503",
                streams.join(", ")
            ),
        })
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// Takes a place for one more connection.
    ///
    /// # Errors
    /// 503 when there are too many, or the process is stopping.
    pub(crate) fn connect(&self, transport: &'static str) -> Result<Connection, Problem> {
        let permit = Arc::clone(&self.0.connections).try_acquire_owned();
        let (Ok(permit), false) = (permit, self.0.stop.is_cancelled()) else {
            self.0.metrics.refused();
            let detail = "This process has as many open connections as it takes. Try again, perhaps elsewhere.";
            return Err(Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER));
        };
        Ok(Connection {
            _permit: permit,
            _open: self.0.metrics.connection(transport),
            _task: self.0.open.token(),
        })
    }
}
