//! One dead letter is tried again. Doing it twice is harmless.

use chat4all_domain::delivery::{self, Command, Rejection};
use chat4all_nats::execute;

use super::job::{Definition, Item, Outcome};
use super::worker::Redriver;
use crate::inbound::again::{self, Again};
use crate::{clock, receipts};

/// Something that is needed is away: the same item is tried again later.
#[derive(Debug, thiserror::Error)]
#[error("something that is needed is away")]
pub(super) struct Trouble(#[source] Box<dyn std::error::Error + Send + Sync>);

pub(super) async fn redrive(
    redriver: &Redriver,
    job: &Definition,
    item: &Item,
) -> Result<Outcome, Trouble> {
    match *item {
        Item::FailedDelivery {
            conversation,
            message,
            n,
            channel: kind,
            generation,
        } => {
            let id = delivery::Id {
                kind,
                conversation,
                message,
            };
            let command = Command::RedriveFailure {
                n,
                generation,
                by: job.by,
                at: clock::now(),
            };
            let context = receipts::context(None);
            let done = redriver.deliveries.execute(&id, command, context).await;
            understood(done.map(drop))
        }
        Item::ParkedInbound { sequence } => parked(redriver, sequence).await,
    }
}

fn understood(done: Result<(), execute::Error<Rejection>>) -> Result<Outcome, Trouble> {
    match done {
        Ok(()) => Ok(Outcome::Redriven),
        Err(execute::Error::Rejected(Rejection::NothingFailed)) => Ok(Outcome::Skipped),
        Err(execute::Error::Rejected(Rejection::NotNext { .. } | Rejection::NotPending { .. })) => {
            Ok(Outcome::Refused("refused by its own history"))
        }
        Err(execute::Error::Broken(_)) => Ok(Outcome::Refused("its history cannot be read")),
        Err(execute::Error::TooLarge { .. }) => Ok(Outcome::Refused("too large for the log")),
        // Unknown, too: when it went through, the next try finds another generation.
        Err(
            error @ (execute::Error::Conflict
            | execute::Error::Full
            | execute::Error::Unavailable
            | execute::Error::Unknown),
        ) => Err(Trouble(Box::new(error))),
    }
}

async fn parked(redriver: &Redriver, sequence: u64) -> Result<Outcome, Trouble> {
    let found = again::find(&redriver.log, sequence).await;
    let found = found.map_err(Trouble)?;
    let Some(parked) = found else {
        return Ok(Outcome::Skipped);
    };
    let inbox = parked.kind.and_then(|kind| redriver.inboxes.get(&kind));
    let Some(inbox) = inbox else {
        return Ok(Outcome::Refused("of a channel that is not configured"));
    };
    match again::take(inbox, &parked).await {
        Ok(Again::TakenIn) => Ok(Outcome::Redriven),
        Ok(Again::Not(why)) => Ok(Outcome::Refused(why)),
        Err(error) => Err(Trouble(error)),
    }
}
