use std::time::Duration;

use crate::channel::{AccountId, Address, ChannelKind};
use crate::message::{Content, Origin};
use crate::{Fingerprint, ParticipantId, Timestamp};

/// What one may ask of a message.
#[derive(Clone, Debug)]
pub enum Command {
    /// Take it in. The same request again changes nothing.
    Accept(Accept),
}

/// Everything that is known when a message comes in. Facts about the conversation are gathered by the caller.
#[derive(Clone, Debug)]
pub struct Accept {
    /// How it came to us.
    pub origin: Origin,
    /// Who wrote it.
    pub author: ParticipantId,
    /// Whether the author may write here, as far as the caller knows.
    pub standing: Standing,
    /// What was written.
    pub content: Content,
    /// A channel's message: the provider's id for it.
    pub provider_id: Option<String>,
    /// Tells a repeat from a different request under the same id.
    pub fingerprint: Fingerprint,
    /// Everybody outside who is to get it. The author is not among them.
    pub recipients: Vec<Recipient>,
    /// When it came in; for a channel's message the provider's time.
    pub at: Timestamp,
    /// How long handing it over may take. Later it expires.
    pub valid_for: Duration,
}

/// The author's membership, as far as the caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In the conversation now.
    Participant,
    /// Not in it (never was, or has left), or there is no such conversation.
    Outsider,
}

/// One participant to be reached through a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Who it is.
    pub participant: ParticipantId,
    /// The channel's kind.
    pub kind: ChannelKind,
    /// The account it goes out through.
    pub account: AccountId,
    /// The address there.
    pub address: Address,
}
