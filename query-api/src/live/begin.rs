//! Beginning a subscription: who may, from where, and what they are told when it cannot be; and how one ends.

use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::UserId;
use chat4all_nats::ReadError;
use chat4all_postgres::read::Reader;
use chat4all_service::auth::{Caller, Scope};
use chat4all_service::problem::Code;
use chat4all_service::{Chain, Problem};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::cursor::Cursor;
use super::hub::Hub;
use super::interest::Interest;
use super::members::Members;
use super::queue::End;
use super::registry::Topic;
use super::subscription::Subscription;
use super::{Live, RETRY_AFTER};
use crate::problem::not_found;

/// How long a new subscription waits for the log.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// How far behind a cursor of many conversations may be, in events of everybody: further back, loading anew is less work.
const FURTHEST: u64 = 100_000;

impl Live {
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
        let interest = Interest::new(&hub, lanes.clone());
        // Before the cursor is looked at: what is replaced after that is noticed.
        let replaced = hub.replaced(lanes.clone());
        self.begun(&hub, lanes.clone(), deadline).await?;
        let after = after.map(|text| Cursor::parse(text, lanes.start, lanes.len()));
        let after = after.transpose();
        let after = after.map_err(|error| Problem::field("/after", error.to_string()))?;
        if let Topic::Conversation(id) = topic {
            let lane = &hub.lanes[lanes.start];
            let after = after.as_ref().map(|cursor| cursor.get(lane.number));
            let mut known = hub.members(lane, id, deadline).await;
            let follows = |members: &Members| {
                members.exists() && (reader.sees_all || members.may_follow(reader.user, after))
            };
            if known.as_ref().is_ok_and(|members| !follows(members)) {
                // What is known here may be older than the answer that brought the caller: no refusal rests on it.
                hub.forget_members(id);
                known = hub.members(lane, id, deadline).await;
            }
            if !follows(&*known.map_err(|error| away(&error))?) {
                return Err(not_found("conversation"));
            }
        }
        if let Some(after) = &after {
            resumable(&hub, topic, after, deadline).await?;
        }
        Ok(Subscription::new(
            self,
            (interest, replaced),
            (reader, topic),
            after,
        ))
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

fn away(error: &ReadError) -> Problem {
    warn!(error = %Chain(error), "a subscription found the log away");
    let detail = "The log does not answer now. Ask again.";
    Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER)
}
