use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::channel::{AccountId, Address, ChannelKind};
use crate::{Fingerprint, ParticipantId, Text, Timestamp};

/// What can have happened to a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// It was taken in: from here on it will be shown and delivered.
    #[serde(rename = "MessageAccepted")]
    Accepted {
        /// Who, when, for whom.
        facts: Accepted,
        /// What was said, and the addresses.
        personal: AcceptedPersonal,
    },
}

impl crate::Event for Event {
    const TYPES: &'static [(&'static str, u16)] = &[("MessageAccepted", 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "MessageAccepted",
        }
    }

    fn read<'de, D: Deserializer<'de>>(
        name: &str,
        mut parts: crate::Parts<D>,
    ) -> Result<Self, D::Error> {
        Ok(match name {
            "MessageAccepted" => Self::Accepted {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            _ => return Err(crate::event::unknown(name)),
        })
    }
}

crate::event::domain_event!(Event);

/// The facts of `MessageAccepted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// How it came to us.
    pub origin: Origin,
    /// Who wrote it.
    pub author: ParticipantId,
    /// Tells a repeat from a different request under the same id.
    pub fingerprint: Fingerprint,
    /// One per outside recipient, numbered from 0 in this order. What counts, whoever joins or leaves later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<PlannedDelivery>,
    /// When it was written: for a channel's message the provider's time, otherwise ours.
    pub occurred_at: Timestamp,
    /// Deliveries that have not left by then expire.
    pub valid_until: Timestamp,
}

/// The personal part of `MessageAccepted`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct AcceptedPersonal {
    /// What was written.
    pub content: Content,
    /// The address of each planned delivery, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// A channel's message: the provider's id for it (WhatsApp's contains the phone number).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

impl fmt::Debug for AcceptedPersonal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcceptedPersonal(***)")
    }
}

/// How a message came to us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// A client posted it.
    Api,
    /// A channel account received it.
    Channel {
        /// Which account.
        account: AccountId,
    },
}

/// One delivery that the message asks for; its number is its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDelivery {
    /// Who is to get it.
    pub participant: ParticipantId,
    /// The channel's kind: also which Delivery aggregate keeps the outcome.
    pub kind: ChannelKind,
    /// The account it goes out through.
    pub account: AccountId,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Content {
    /// Plain text.
    Text {
        /// The text.
        text: Text,
    },
    /// Something a channel sent that we cannot show yet; the original stands in the inbound stream.
    Unsupported {
        /// The provider's word for it (`sticker`).
        what: String,
    },
}

impl Content {
    /// The content's type as it stands in bodies: `text`, `unsupported`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Unsupported { .. } => "unsupported",
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content::{}(***)", self.kind())
    }
}
