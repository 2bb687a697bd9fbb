//! What was put aside is taken in again: after a repair it may be understood.
//!
//! It goes the way of what has just come in, and every id on that way is derived, so that taking it in twice changes nothing.
//! Only when all of it has its effect is it gone from `PARKED`; what is still not understood stays there, as it was.

use async_nats::jetstream::stream::RawMessageErrorKind;
use chat4all_domain::{AccountId, ChannelKind};
use chat4all_nats::{Log, parked, streams};
use chat4all_service::Chain;
use tracing::{debug, info};

use crate::channel;
use crate::inbound::{Inbox, item};

/// Something on `PARKED`, with what it says.
pub(crate) struct Found {
    sequence: u64,
    /// `None`: of a kind that this release does not know.
    pub(crate) kind: Option<ChannelKind>,
    account: Option<AccountId>,
    raw: String,
}

/// What became of it.
pub(crate) enum Again {
    /// Everything in it has its effect, and it is gone.
    TakenIn,
    /// It stays where it is. Why, in our own words.
    Not(&'static str),
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// What stands at `sequence` of `PARKED`, as its leader knows it.
///
/// # Errors
/// The broker does not answer.
pub(crate) async fn find(log: &Log, sequence: u64) -> Result<Option<Found>, async_nats::Error> {
    let stream = log.jetstream().get_stream_no_info(streams::PARKED).await?;
    let message = match stream.get_raw_message(sequence).await {
        Ok(message) => message,
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let account = message.headers.get(parked::ACCOUNT);
    let kind = message.subject.split('.').nth(2);
    Ok(Some(Found {
        sequence,
        kind: kind.and_then(|kind| kind.parse().ok()),
        account: account.and_then(|account| account.as_str().parse().ok()),
        raw: String::from_utf8_lossy(&message.payload).into_owned(),
    }))
}

/// Takes it in.
///
/// # Errors
/// Something that is needed is away: do it again later.
pub(crate) async fn take(inbox: &Inbox, found: &Found) -> Result<Again, Trouble> {
    let accounts = &inbox.config.accounts;
    let known = found
        .account
        .as_ref()
        .and_then(|id| accounts.get_key_value(id));
    let Some((account, settings)) = known else {
        return Ok(Again::Not("an account that is not configured"));
    };
    let items = channel::read_again(settings, &found.raw);
    let mut refused = items.is_empty().then_some("there is nothing in it");
    for item in &items {
        if let Some(why) = item::once_again(inbox, account, item).await? {
            refused.get_or_insert(why);
        }
    }
    if let Some(why) = refused {
        return Ok(Again::Not(why));
    }
    let js = inbox.log.jetstream();
    let stream = js.get_stream_no_info(streams::PARKED).await?;
    let sequence = found.sequence;
    if let Err(error) = stream.delete_message(sequence).await {
        if find(&inbox.log, sequence).await?.is_some() {
            return Err(error.into());
        }
        debug!(error = %Chain(&error), sequence, "a parked item was gone already");
    }
    info!(account = %account, sequence, "took in what was parked at {sequence}");
    Ok(Again::TakenIn)
}
