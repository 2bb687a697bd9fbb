//! Typed ids. Each is a UUID in 36-character lower-case text, so that it can stand in a subject, a key and a URL.
//!
//! What must be the same after a crash is derived (`v5`, or HMAC under the [`crate::secret::IdSecret`]); what must be
//! different every time (a [`CommandId`]) is a fresh UUIDv7 handed in by the caller.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that is known to name this kind of thing.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }
            /// The bare UUID, for keys and columns.
            pub const fn uuid(&self) -> Uuid {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

typed_id!(
    /// Names a conversation; its text decides the partition of everything in it.
    ConversationId
);
typed_id!(
    /// Names a message within its conversation: always used together with a [`ConversationId`].
    MessageId
);
typed_id!(
    /// Names a participant of one conversation; the same person has another one in the next conversation.
    ParticipantId
);
typed_id!(
    /// Names somebody who signs in: UUIDv5 of (issuer, `sub`).
    UserId
);
typed_id!(
    /// Names an outside address (a phone number on WhatsApp) without revealing it.
    IdentityId
);
typed_id!(
    /// Names one execution of commands: a fresh UUIDv7, kept through its conflict retries, never reused.
    CommandId
);

impl UserId {
    /// The id of `sub` as `issuer` knows it. The same pair gives the same id for ever.
    pub fn derive(issuer: &str, sub: &str) -> Self {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        let name = format!("{}:{issuer}{sub}", issuer.len());
        Self(Uuid::new_v5(&USER_NAMESPACE, name.as_bytes()))
    }
}

impl MessageId {
    /// The id of a message that was posted with an idempotency key: the same caller, conversation and key give the same id.
    pub fn derive(conversation: ConversationId, caller: UserId, key: &str) -> Self {
        let name = format!("{caller}:{key}");
        Self(Uuid::new_v5(&conversation.0, name.as_bytes()))
    }
    /// The id of a message that came in through a channel account: the provider's id for it, within the conversation.
    pub fn derive_inbound(conversation: ConversationId, account: &str, provider_id: &str) -> Self {
        let name = format!("inbound:{account}:{provider_id}");
        Self(Uuid::new_v5(&conversation.0, name.as_bytes()))
    }
}

impl ParticipantId {
    /// A user's id as a participant of `conversation`. Joining again gives the same id.
    pub fn of_user(conversation: ConversationId, user: UserId) -> Self {
        Self(Uuid::new_v5(
            &conversation.0,
            format!("user:{user}").as_bytes(),
        ))
    }
    /// An outside identity's id as a participant of `conversation`, reached through `account`.
    pub fn of_contact(conversation: ConversationId, account: &str, identity: IdentityId) -> Self {
        Self(Uuid::new_v5(
            &conversation.0,
            format!("contact:{account}:{identity}").as_bytes(),
        ))
    }
}

impl ConversationId {
    /// The id of a group that was started with an idempotency key: the same caller and key give the same id.
    pub fn derive_group(caller: UserId, key: &str) -> Self {
        Self(Uuid::new_v5(&caller.0, format!("group:{key}").as_bytes()))
    }
}

/// UUIDv5 namespace of users; drawn once for this project.
const USER_NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_2f0e_77a1_4e0b_9d6e_6a5f_0c4a_11d1);
