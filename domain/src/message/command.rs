use std::fmt;
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
#[derive(Clone)]
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
    /// Everybody outside who is to get it. The author gets none, and who is named twice gets one.
    pub recipients: Vec<Recipient>,
    /// When it came in; for a channel's message the provider's time.
    pub at: Timestamp,
    /// How long handing it over may take. Later it expires.
    pub valid_for: Duration,
}

impl fmt::Debug for Accept {
    /// Without the content and the provider's id, which may contain a phone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept")
            .field("origin", &self.origin)
            .field("author", &self.author)
            .field("standing", &self.standing)
            .field("recipients", &self.recipients)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
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
