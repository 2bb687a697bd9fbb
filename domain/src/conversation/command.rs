use crate::conversation::{Kind, Who};
use crate::{Address, Fingerprint, ParticipantId, Text, Timestamp, UserId};

/// What one may ask of a conversation.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start it. The same request again changes nothing.
    Start {
        /// Direct or group.
        kind: Kind,
        /// Everybody in it from the start, the starter among them if that is a user.
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

/// Somebody who is to be in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The id they have in this conversation.
    pub participant: ParticipantId,
    /// A user, or somebody outside.
    pub who: Who,
    /// The address of somebody outside.
    pub address: Option<Address>,
}
