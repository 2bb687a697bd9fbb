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

mod body;
mod catch_up;
mod cursor;
mod entry;
mod events;
mod hub;
mod lane;
mod members;
mod metrics;
mod queue;
mod registry;
mod socket;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::UserId;
use chat4all_nats::Log;
use chat4all_postgres::read::Reader;
use chat4all_service::auth::{Caller, Scope};
use chat4all_service::problem::Code;
use chat4all_service::{Chain, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tracing::warn;

use crate::problem::not_found;
use catch_up::Turns;
use cursor::Cursor;
use hub::Hub;

pub use entry::{Entry, What};
pub use events::routes;
pub use metrics::Metrics;
pub use queue::End;
pub use registry::Topic;
pub use socket::{graphql, notifications};
pub use subscription::{Subscription, Update};

/// How long a new subscription waits for the log.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How far behind a cursor of many conversations may be, in events of everybody: further back, loading anew is less work.
const FURTHEST: u64 = 100_000;
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
    pub async fn run(self, log: Log) {
        let hub = Arc::new(Hub::new(log, self.0.metrics.clone()));
        self.0.hub.send_replace(Some(Arc::clone(&hub)));
        let tasks = TaskTracker::new();
        for lane in 0..hub.lanes.len() {
            let (hub, stop) = (Arc::clone(&hub), self.0.stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = hub.follow(&hub.lanes[lane]) => {}
                }
            });
        }
        tasks.close();
        tasks.wait().await;
        self.0.open.close();
        self.0.open.wait().await;
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
        let waiting = hub.lanes.iter().filter(|lane| lane.shown().is_none());
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

    /// Follows `topic` for `caller`, behind the cursor `after` or from now on.
    ///
    /// # Errors
    /// 403 without the scope; 404 for a conversation that is not the caller's to follow; 422 for a cursor of something else; 410
    /// for one that cannot be resumed from; 503 while the log is away.
    pub(crate) async fn subscribe(
        &self,
        caller: &Caller,
        topic: Topic,
        after: Option<&str>,
    ) -> Result<Subscription, Problem> {
        caller.require(match topic {
            Topic::Conversation(_) | Topic::Mine => Scope::ConversationsRead,
            Topic::DeadLetters => Scope::DeadLettersRead,
        })?;
        let reader = Reader {
            user: UserId::derive(caller.issuer(), caller.sub()),
            sees_all: caller.may(Scope::ConversationsReadAll),
        };
        let deadline = Instant::now() + BEGIN_WITHIN;
        let hub = self.hub(deadline).await?;
        let partitions = usize::from(hub.log.partitions().get());
        let lanes = match topic {
            Topic::Conversation(id) => {
                let lane = usize::from(hub.log.partition_of(&id).number());
                lane..lane + 1
            }
            Topic::Mine => 0..partitions,
            Topic::DeadLetters => 0..partitions + 1,
        };
        self.begun(&hub, lanes.clone(), deadline).await?;
        let after = after.map(|text| Cursor::parse(text, lanes.start, lanes.len()));
        let after = after.transpose();
        let after = after.map_err(|error| Problem::field("/after", error.to_string()))?;
        if let Topic::Conversation(id) = topic {
            let lane = &hub.lanes[lanes.start];
            let members = hub
                .members(lane, id, deadline)
                .await
                .map_err(|e| away(&e))?;
            let after = after.as_ref().map(|cursor| cursor.get(lane.number));
            let follows = reader.sees_all || members.may_follow(reader.user, after);
            if !members.exists() || !follows {
                return Err(not_found("conversation"));
            }
        }
        if let Some(after) = &after {
            resumable(&hub, topic, after, deadline).await?;
        }
        Ok(Subscription::new(self, &hub, (reader, topic), lanes, after))
    }

    async fn hub(&self, deadline: Instant) -> Result<Arc<Hub>, Problem> {
        let mut hub = self.0.hub.subscribe();
        let there = timeout_at(deadline, hub.wait_for(Option::is_some)).await;
        let there = there.ok().and_then(Result::ok);
        there.and_then(|hub| hub.clone()).ok_or_else(not_yet)
    }

    async fn begun(
        &self,
        hub: &Hub,
        lanes: std::ops::Range<usize>,
        deadline: Instant,
    ) -> Result<(), Problem> {
        while hub.lanes[lanes.clone()]
            .iter()
            .any(|lane| lane.shown().is_none())
        {
            if Instant::now() >= deadline {
                return Err(not_yet());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Whether what came behind `after` is to be had, and is not more than loading anew.
async fn resumable(
    hub: &Hub,
    topic: Topic,
    after: &Cursor,
    deadline: Instant,
) -> Result<(), Problem> {
    let mut behind = 0_u64;
    for number in after.lanes() {
        let (lane, place) = (&hub.lanes[number], after.get(number));
        let shown = lane.shown().unwrap_or(0);
        behind = behind.saturating_add(shown.saturating_sub(place));
        // Another process may be ahead of this one; the log itself is not behind anybody.
        if place > shown {
            let last = hub.log.last_of_stream(&lane.stream, deadline).await;
            if place > last.map_err(|error| away(&error))? {
                return Err(resync("The log does not go as far as this cursor"));
            }
        }
    }
    let filtered = matches!(topic, Topic::Conversation(_));
    if !filtered && behind > FURTHEST {
        return Err(resync("Too much has happened since this cursor"));
    }
    Ok(())
}

/// Says that what a client shows has to be loaded anew.
fn resync(why: &'static str) -> Problem {
    let detail = format!("{why}: load anew what is shown, and follow without a cursor.");
    Problem::new(Code::Resync, detail)
}

/// Says why a subscription has ended, and where to resume.
pub(crate) fn ended(end: End, cursor: String) -> Problem {
    match end {
        End::Overtaken => {
            let detail = "More has happened than was taken; resume behind `cursor`, nothing up to there is missing.";
            Problem::new(Code::Resync, detail).with("cursor", cursor)
        }
        End::LogChanged => resync("The log is not the same any more"),
        End::Left => not_found("conversation"),
    }
}

fn not_yet() -> Problem {
    let detail = "Following is not possible yet: the log is not there. Ask again.";
    Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER)
}

fn away(error: &chat4all_nats::ReadError) -> Problem {
    warn!(error = %Chain(error), "a subscription found the log away");
    let detail = "The log does not answer now. Ask again.";
    Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER)
}
