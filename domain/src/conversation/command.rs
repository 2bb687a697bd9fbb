use crate::conversation::{Kind, Who};
use crate::{
    AccountId, Address, ChannelKind, Fingerprint, IdentityId, ParticipantId, Text, Timestamp,
    UserId,
};

/// What one may ask of a conversation.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start it. The same request again changes nothing.
    Start {
        /// Direct or group.
        kind: Kind,
        /// Everybody in it from the start, the starter among them if that is a user. Who is named twice counts once.
        members: Vec<Member>,
        /// What it is called.
        title: Option<Text>,
        /// Tells a repeat from a different request under the same id. Direct conversations need none: their id says it all.
        fingerprint: Option<Fingerprint>,
        /// The user who starts it; `None` when somebody outside wrote first.
        by: Option<UserId>,
        /// When.
        at: Timestamp,
    },
    /// Let somebody join. Who is in it already stays in it: nothing changes.
    Add {
        /// Who joins.
        member: Member,
        /// The user who asks for it; `None` for the system (a user writes to an address).
        by: Option<UserId>,
        /// When.
        at: Timestamp,
    },
    /// Let somebody leave. Who is not in it: nothing changes.
    Remove {
        /// Who leaves.
        participant: ParticipantId,
        /// The user who asks for it.
        by: UserId,
        /// When.
        at: Timestamp,
    },
}

/// Somebody who is to be in a conversation. Who is outside has an address: without one no message could reach them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// Somebody who signs in.
    User {
        /// The id they have in this conversation.
        participant: ParticipantId,
        /// Their id everywhere.
        user: UserId,
    },
    /// Somebody who is reached through a channel account.
    Contact {
        /// The id they have in this conversation.
        participant: ParticipantId,
        /// Whose address it is.
        identity: IdentityId,
        /// The channel's kind.
        kind: ChannelKind,
        /// The account they are reached through.
        account: AccountId,
        /// The address there.
        address: Address,
    },
}

impl Member {
    /// The id they have in this conversation.
    pub const fn participant(&self) -> ParticipantId {
        match self {
            Self::User { participant, .. } | Self::Contact { participant, .. } => *participant,
        }
    }
    /// What the facts say about them: everything but the address.
    pub fn who(&self) -> Who {
        match self {
            Self::User { user, .. } => Who::User { user: *user },
            Self::Contact {
                identity,
                kind,
                account,
                ..
            } => Who::Contact {
                identity: *identity,
                kind: *kind,
                account: account.clone(),
            },
        }
    }
    /// The address of somebody outside.
    pub const fn address(&self) -> Option<&Address> {
        match self {
            Self::User { .. } => None,
            Self::Contact { address, .. } => Some(address),
        }
    }
}
