//! One item: a message goes through identity, conversation and message, in this order; a receipt goes to its delivery.
//!
//! Each step is get-or-create under a derived id, so that doing it again from the top changes nothing.

use std::time::Duration;

use chat4all_domain::conversation::{self, Kind, Member, Who};
use chat4all_domain::message::{self, Accept, Origin, Recipient, Standing};
use chat4all_domain::{
    AccountId, Conversation, ConversationId, IdentityId, MessageId, ParticipantId, identity,
};
use chat4all_nats::execute::{self, Context, Purpose};
use chat4all_nats::load;
use chat4all_service::Chain;
use chat4all_service::telemetry::trace::{current_traceparent, follow};
use tokio::time::Instant;
use tracing::{Instrument, error, info, info_span, warn};

use crate::channel::{Incoming, Item, Report, What};
use crate::inbound::Inbox;
use crate::inbound::owner::Work;
use crate::receipts::{self, DEADLINE, Placed};

/// Waits between tries while the log or a bucket is away.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why an item is not done yet.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// It will pass: try again.
    #[error("something that is needed is away")]
    Passing(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It will not: somebody must look.
    #[error("{why}")]
    Lasting {
        why: &'static str,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Deals with an item, however long that takes: it is on the log, or put aside, when this returns.
pub async fn deal_with(inbox: &Inbox, work: &Work) {
    let span = info_span!("inbound", account = %work.account);
    let span = follow(span, work.traceparent.as_deref());
    insist(inbox, work).instrument(span).await;
}

async fn insist(inbox: &Inbox, work: &Work) {
    let (mut wait, mut begun) = (FIRST_WAIT, work.begun);
    loop {
        let done = match once(inbox, work, begun).await {
            Err(Trouble::Lasting { why, source }) => {
                if let Some(source) = source {
                    error!(account = %work.account, error = %Chain(&*source), why, "an inbound item cannot be dealt with: {why}");
                }
                park(inbox, work, why).await
            }
            done => done,
        };
        match done {
            Ok(()) => return,
            Err(trouble) => {
                warn!(account = %work.account, error = %Chain(&trouble), "an inbound item has to wait");
            }
        }
        tokio::time::sleep(wait).await;
        (wait, begun) = ((wait * 2).min(LONGEST_WAIT), true);
    }
}

async fn once(inbox: &Inbox, work: &Work, begun: bool) -> Result<(), Trouble> {
    let traceparent = current_traceparent().or_else(|| work.traceparent.clone());
    match &work.item.what {
        Ok(What::Message(incoming)) => take_in(inbox, &work.account, incoming, traceparent).await,
        Ok(What::Receipt(report)) => {
            receipt(inbox, work, (report, begun), traceparent.as_deref()).await
        }
        Err(unreadable) => park(inbox, work, unreadable.0).await,
    }
}

/// Deals once with an item that was put aside; says why it still cannot be dealt with.
///
/// # Errors
/// Something that is needed is away.
pub async fn once_again(
    inbox: &Inbox,
    account: &AccountId,
    item: &Item,
) -> Result<Option<&'static str>, Box<dyn std::error::Error + Send + Sync>> {
    let done = match &item.what {
        Ok(What::Message(incoming)) => take_in(inbox, account, incoming, None).await,
        Ok(What::Receipt(report)) => match inbox.config.accounts.get(account) {
            Some(settings) => {
                let whose = (inbox.kind, account, settings);
                match inbox.receipts.place_again(whose, report).await {
                    Ok(Placed::Recorded) => Ok(()),
                    Ok(Placed::Parked) => return Ok(Some(receipts::UNKNOWN_MESSAGE)),
                    Err(error) => Err(not_recorded(error)),
                }
            }
            None => return Ok(Some("an account that is not configured")),
        },
        Err(unreadable) => return Ok(Some(unreadable.0)),
    };
    match done {
        Ok(()) => Ok(None),
        Err(Trouble::Lasting { why, source }) => {
            if let Some(source) = source {
                error!(account = %account, error = %Chain(&*source), why, "a parked item cannot be dealt with: {why}");
            }
            Ok(Some(why))
        }
        Err(trouble @ Trouble::Passing(_)) => Err(Box::new(trouble)),
    }
}

fn not_recorded(error: receipts::Error) -> Trouble {
    match error {
        receipts::Error::Record(error) => not_taken(error),
        error @ (receipts::Error::References(_) | receipts::Error::Parked(_)) => passing(error),
    }
}

async fn park(inbox: &Inbox, work: &Work, why: &'static str) -> Result<(), Trouble> {
    let (account, raw) = (&work.account, &work.item.raw);
    let parked = inbox.receipts.park_item(inbox.kind, account, why, raw);
    parked.await.map_err(passing)
}

fn passing(error: impl std::error::Error + Send + Sync + 'static) -> Trouble {
    Trouble::Passing(Box::new(error))
}

async fn receipt(
    inbox: &Inbox,
    work: &Work,
    (report, begun): (&Report, bool),
    traceparent: Option<&str>,
) -> Result<(), Trouble> {
    let Some(settings) = inbox.config.accounts.get(&work.account) else {
        return park(inbox, work, "an account that is not configured").await;
    };
    let whose = (inbox.kind, &work.account, settings);
    let placed = inbox
        .receipts
        .place(whose, (report, begun), &work.item.raw, traceparent);
    match placed.await {
        Ok(Placed::Recorded | Placed::Parked) => Ok(()),
        Err(error) => Err(not_recorded(error)),
    }
}

/// First contact appends identity, conversation, message in this order; later ones find what is there.
async fn take_in(
    inbox: &Inbox,
    account: &AccountId,
    incoming: &Incoming,
    traceparent: Option<String>,
) -> Result<(), Trouble> {
    let kind = inbox.kind;
    let identity = inbox.config.ids.identity(kind, &incoming.from);
    let context = || Context {
        purpose: Purpose::Accept,
        ..receipts::context(traceparent.as_deref())
    };
    let meet = identity::Command::Meet {
        kind,
        address: incoming.from.clone(),
        name: incoming.name.clone(),
        at: incoming.at,
    };
    let met = inbox.identities.execute(&identity, meet, context());
    met.await.map_err(not_taken)?;

    let quoted = match &incoming.quotes {
        Some(quoted) => conversation_of(inbox, account, quoted, identity).await?,
        None => None,
    };
    let (conversation, state) = match quoted {
        Some(found) => found,
        None => direct(inbox, account, incoming, identity, context()).await?,
    };
    let id = message::Id {
        conversation,
        message: MessageId::derive_inbound(conversation, account.as_str(), &incoming.provider_id),
    };
    let author = ParticipantId::of_contact(conversation, account.as_str(), identity);
    let accept = message::Command::Accept(Accept {
        origin: Origin::Channel {
            account: account.clone(),
        },
        author,
        standing: Standing::Participant,
        content: incoming.content.clone(),
        provider_id: Some(incoming.provider_id.clone()),
        fingerprint: inbox
            .config
            .ids
            .fingerprint_inbound(account, &incoming.provider_id),
        recipients: others_outside(&state, author),
        at: incoming.at,
        valid_for: inbox.config.pace.valid_for,
    });
    let accepted = inbox.messages.execute(&id, accept, context());
    let accepted = accepted.await.map_err(not_taken)?;
    if !accepted.events.is_empty() {
        info!(message.id = %id.message, conversation.id = %conversation, account = %account, "message `{}` came in", id.message);
    }
    Ok(())
}

/// In a group what one outside participant writes goes to the others, as what a user writes does.
fn others_outside(conversation: &Conversation, author: ParticipantId) -> Vec<Recipient> {
    let present = conversation.present();
    present
        .filter(|(participant, _)| *participant != author)
        .filter_map(
            |(participant, present)| match (&present.who, &present.address) {
                (Who::Contact { kind, account, .. }, Some(address)) => Some(Recipient {
                    participant,
                    kind: *kind,
                    account: account.clone(),
                    address: address.clone(),
                }),
                (Who::Contact { .. }, None) | (Who::User { .. }, _) => None,
            },
        )
        .collect()
}

/// The conversation of the quoted message, if it is one of ours and the sender is in it.
async fn conversation_of(
    inbox: &Inbox,
    account: &AccountId,
    quoted: &str,
    identity: IdentityId,
) -> Result<Option<(ConversationId, Conversation)>, Trouble> {
    let whose = (inbox.kind, account);
    let reference = inbox
        .receipts
        .look_up(whose, quoted)
        .await
        .map_err(passing)?;
    let Some(reference) = reference else {
        return Ok(None);
    };
    let conversation = reference.conversation;
    let deadline = Instant::now() + DEADLINE;
    let loaded = inbox.conversations.from_leader(&conversation, deadline);
    let loaded = loaded.await.map_err(|error| match error {
        load::Error::Read { .. } => passing(error),
        load::Error::Decode { .. } | load::Error::Hole { .. } => Trouble::Lasting {
            why: "the conversation it quotes cannot be read",
            source: Some(Box::new(error)),
        },
    })?;
    let sender = ParticipantId::of_contact(conversation, account.as_str(), identity);
    let present = loaded.state.present().any(|(id, _)| id == sender);
    Ok(present.then(|| (conversation, loaded.state.clone())))
}

/// The direct conversation with the sender, made on first contact.
async fn direct(
    inbox: &Inbox,
    account: &AccountId,
    incoming: &Incoming,
    identity: IdentityId,
    context: Context,
) -> Result<(ConversationId, Conversation), Trouble> {
    let ids = &inbox.config.ids;
    let conversation = ids.direct_with_address(account, &incoming.from);
    let start = conversation::Command::Start {
        kind: Kind::Direct,
        members: vec![Member::Contact {
            participant: ParticipantId::of_contact(conversation, account.as_str(), identity),
            identity,
            kind: inbox.kind,
            account: account.clone(),
            address: incoming.from.clone(),
        }],
        title: None,
        fingerprint: None,
        by: None,
        at: incoming.at,
    };
    let started = inbox.conversations.execute(&conversation, start, context);
    let started = started.await.map_err(not_taken)?;
    Ok((conversation, started.state))
}

/// What the log's answer means for an item.
fn not_taken<R>(error: execute::Error<R>) -> Trouble
where
    R: std::error::Error + Send + Sync + 'static,
{
    let why = match &error {
        execute::Error::Rejected(_) => "refused by its own history",
        execute::Error::TooLarge { .. } => "too large for the log",
        execute::Error::Broken(_) => "its history cannot be read",
        // Also while the log is full: what came in is safe in its own stream.
        execute::Error::Conflict
        | execute::Error::Full
        | execute::Error::Unavailable
        | execute::Error::Unknown => return passing(error),
    };
    Trouble::Lasting {
        why,
        source: Some(Box::new(error)),
    }
}
