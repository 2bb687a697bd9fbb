//! What became of an attempt: brought onto the log, however long that takes, and asked of the log.

use std::time::Duration;

use chat4all_domain::Delivery;
use chat4all_domain::delivery::{Command, Event, Rejection};
use chat4all_nats::execute::{self, Assume};
use chat4all_service::Chain;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::outbound::attempt::Desk;
use crate::outbound::lanes::Head;
use crate::receipts::{self, DEADLINE};

/// After trouble with the log, look again.
pub const AGAIN: Duration = Duration::from_secs(1);

/// How deliveries stand, by an answer of the log.
pub struct State {
    pub delivery: Delivery,
    pub revision: u64,
    /// What this answer's command made.
    pub events: Vec<Event>,
}

/// What the log answered to a command.
pub enum Answer {
    Done(Box<State>),
    /// Refused: this is how it stands.
    Refused(Box<State>),
}

/// Brings an outcome onto the log, however long that takes: the lane waits for it.
pub async fn record(
    desk: &Desk,
    head: &Head,
    command: Command,
    traceparent: Option<&str>,
) -> Box<State> {
    loop {
        match execute(desk, head, command.clone(), traceparent).await {
            Ok(Answer::Done(state) | Answer::Refused(state)) => return state,
            // Repeating is safe: what is on the log already is no news.
            Err(error) => log_trouble(head, &error),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The log did not take it; somebody tries again.
pub fn log_trouble(head: &Head, error: &(dyn std::error::Error + 'static)) {
    warn!(message.id = %head.id.message, error = %Chain(error), "the log does not take how it went with message `{}`", head.id.message);
}

pub async fn execute(
    desk: &Desk,
    head: &Head,
    command: Command,
    traceparent: Option<&str>,
) -> Result<Answer, execute::Error<Rejection>> {
    let deliveries = &desk.worker.deliveries;
    let mut context = receipts::context(traceparent);
    // Most often it is the first that is ever said of this delivery: the expected revision finds out, without a look.
    if head.attempt == 1 {
        context.assume = Assume::Absent;
    }
    match deliveries.execute(&head.id, command, context).await {
        Ok(done) => Ok(Answer::Done(Box::new(State {
            delivery: done.state,
            revision: done.revision.get(),
            events: done.events,
        }))),
        Err(execute::Error::Rejected(rejection)) => {
            debug!(message.id = %head.id.message, %rejection, "somebody else was faster");
            let state = look(desk, head).await;
            state
                .map(Answer::Refused)
                .ok_or(execute::Error::Unavailable)
        }
        Err(error) => Err(error),
    }
}

/// How it stands now, by the leader.
pub async fn look(desk: &Desk, head: &Head) -> Option<Box<State>> {
    let deliveries = &desk.worker.deliveries;
    match deliveries
        .from_leader(&head.id, Instant::now() + DEADLINE)
        .await
    {
        Ok(loaded) => Some(Box::new(State {
            delivery: loaded.state.clone(),
            revision: loaded.revision.get(),
            events: vec![],
        })),
        Err(error) => {
            warn!(message.id = %head.id.message, error = %Chain(&error), "cannot see how it stands with message `{}`", head.id.message);
            None
        }
    }
}

/// Tries until it is done.
pub async fn insist<F>(head: &Head, mut work: impl FnMut() -> F)
where
    F: Future<Output = Result<(), receipts::Error>>,
{
    while let Err(error) = work().await {
        log_trouble(head, &error);
        tokio::time::sleep(AGAIN).await;
    }
}
