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
mod places;
mod queue;
mod registry;
mod socket;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use chat4all_nats::Log;
use chat4all_service::Problem;
use chat4all_service::auth::Caller;
use chat4all_service::problem::Code;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use catch_up::Turns;
use hub::Hub;
use places::{Place, Places};

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
    /// Those of one caller; more are 429.
    pub per_caller: usize,
    /// WebSockets whose client has not said yet who it is; more are 503.
    pub strangers: usize,
}

/// Follows the log on behalf of everybody who is connected; a cheap handle.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    hub: watch::Sender<Option<Arc<Hub>>>,
    metrics: Metrics,
    turns: Turns,
    places: Places,
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
    place: Place,
    _open: metrics::Open,
    _task: TaskTrackerToken,
    metrics: Metrics,
}

impl Live {
    /// Nobody follows yet: subscriptions are 503 until [`Live::run`]. At `stop` every connection is closed.
    pub fn new(limits: Limits, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            hub: watch::Sender::new(None),
            metrics: Metrics::default(),
            turns: Turns::default(),
            places: Places::new(limits),
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

    /// Takes a place for one more connection, of `caller` or of somebody who has not said yet who they are.
    ///
    /// # Errors
    /// 503 when there are too many, or the process is stopping; 429 when this caller has too many.
    pub(crate) fn connect(
        &self,
        transport: &'static str,
        caller: Option<&Caller>,
    ) -> Result<Connection, Problem> {
        if self.0.stop.is_cancelled() {
            let detail = "This process stops. Try again, elsewhere.";
            return Err(Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER));
        }
        let place = self.0.places.take(caller);
        Ok(Connection {
            place: place.inspect_err(|_| self.0.metrics.refused())?,
            _open: self.0.metrics.connection(transport),
            _task: self.0.open.token(),
            metrics: self.0.metrics.clone(),
        })
    }
}

impl Connection {
    /// Its client has said who it is.
    ///
    /// # Errors
    /// 429 when this caller has too many.
    pub(crate) fn is_of(&mut self, caller: &Caller) -> Result<(), Problem> {
        let introduced = self.place.is_of(caller);
        introduced.inspect_err(|_| self.metrics.refused())
    }
}
