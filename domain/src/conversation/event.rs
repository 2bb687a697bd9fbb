use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    AccountId, Address, ChannelKind, Fingerprint, IdentityId, ParticipantId, Text, Timestamp,
    UserId,
};

/// What can have happened to a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// It exists, with these participants.
    #[serde(rename = "ConversationStarted")]
    Started {
        /// Who, when.
        facts: Started,
        /// Title and addresses.
        personal: StartedPersonal,
    },
    /// Somebody came in.
    #[serde(rename = "ParticipantJoined")]
    Joined {
        /// Who, when.
        facts: Joined,
        /// Their address.
        personal: JoinedPersonal,
    },
    /// Somebody went.
    #[serde(rename = "ParticipantLeft")]
    Left {
        /// Who, when.
        facts: Left,
    },
}

impl crate::Event for Event {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("ConversationStarted", 1),
        ("ParticipantJoined", 1),
        ("ParticipantLeft", 1),
    ];

    fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "ConversationStarted",
            Self::Joined { .. } => "ParticipantJoined",
            Self::Left { .. } => "ParticipantLeft",
        }
    }

    fn read<'de, D: Deserializer<'de>>(
        name: &str,
        mut parts: crate::Parts<D>,
    ) -> Result<Self, D::Error> {
        Ok(match name {
            "ConversationStarted" => Self::Started {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            "ParticipantJoined" => Self::Joined {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            "ParticipantLeft" => Self::Left {
                facts: parts.facts()?,
            },
            _ => return Err(crate::event::unknown(name)),
        })
    }
}

crate::event::domain_event!(Event);

/// Two parties, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// With one outside address (any number of users write to it together), or between two users.
    Direct,
    /// Any number of users and outside addresses.
    Group,
}

/// A user, or somebody outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Who {
    /// Somebody who signs in, reads and writes here.
    User {
        /// Their id everywhere.
        user: UserId,
    },
    /// Somebody who is reached through a channel account.
    Contact {
        /// Whose address it is.
        identity: IdentityId,
        /// The channel's kind.
        kind: ChannelKind,
        /// The account they are reached through.
        account: AccountId,
    },
}

/// One participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// The id they have in this conversation.
    pub participant: ParticipantId,
    /// A user, or somebody outside.
    pub who: Who,
}

/// The facts of `ConversationStarted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Direct or group.
    pub kind: Kind,
    /// Everybody in it from the start.
    pub participants: Vec<Participant>,
    /// Tells a repeat from a different request under the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The user who started it; absent when somebody outside wrote first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// When.
    pub occurred_at: Timestamp,
}

/// The personal part of `ConversationStarted`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartedPersonal {
    /// What it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Text>,
    /// The addresses of those outside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<ParticipantId, Address>,
}

/// The facts of `ParticipantJoined`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// Who.
    #[serde(flatten)]
    pub participant: Participant,
    /// The user who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// When.
    pub occurred_at: Timestamp,
}

/// The personal part of `ParticipantJoined`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JoinedPersonal {
    /// The address of somebody outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// The facts of `ParticipantLeft`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// Who.
    pub participant: ParticipantId,
    /// The user who asked for it.
    pub by: UserId,
    /// When.
    pub occurred_at: Timestamp,
}
