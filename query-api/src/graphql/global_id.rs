//! Ids of nodes: one text that says what it is and which, for Relay's `node(id)`. Opaque to clients.

use std::fmt;
use std::str::FromStr;

use async_graphql::ID;
use chat4all_domain::{ConversationId, IdentityId, MessageId, ParticipantId, Position};
use chat4all_service::Problem;

/// Names a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalId {
    /// `conversation:<uuid>`
    Conversation(ConversationId),
    /// `message:<conversation>:<message>`
    Message(ConversationId, MessageId),
    /// `participant:<conversation>:<participant>`
    Participant(ConversationId, ParticipantId),
    /// `identity:<uuid>`
    Identity(IdentityId),
    /// `failed-delivery:<conversation>:<message>:<number>`
    FailedDelivery(ConversationId, MessageId, u16),
    /// `poison-event:<position>`
    PoisonEvent(Position),
    /// `parked-inbound:<sequence>`
    ParkedInbound(u64),
}

impl fmt::Display for GlobalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversation(id) => write!(f, "conversation:{id}"),
            Self::Message(conversation, id) => write!(f, "message:{conversation}:{id}"),
            Self::Participant(conversation, id) => write!(f, "participant:{conversation}:{id}"),
            Self::Identity(id) => write!(f, "identity:{id}"),
            Self::FailedDelivery(conversation, message, n) => {
                write!(f, "failed-delivery:{conversation}:{message}:{n}")
            }
            Self::PoisonEvent(position) => write!(f, "poison-event:{position}"),
            Self::ParkedInbound(sequence) => write!(f, "parked-inbound:{sequence}"),
        }
    }
}

impl GlobalId {
    /// Whether it names a dead letter: those have a scope of their own.
    pub fn is_dead_letter(self) -> bool {
        match self {
            Self::FailedDelivery(..) | Self::PoisonEvent(_) | Self::ParkedInbound(_) => true,
            Self::Conversation(_)
            | Self::Message(..)
            | Self::Participant(..)
            | Self::Identity(_) => false,
        }
    }

    /// Reads what [`GlobalId`]'s `Display` wrote; `None` for anything else, which names no node.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, ids) = text.split_once(':')?;
        match (kind, ids.split_once(':')) {
            ("conversation", None) => Some(Self::Conversation(ids.parse().ok()?)),
            ("identity", None) => Some(Self::Identity(ids.parse().ok()?)),
            ("message", Some((conversation, id))) => {
                Some(Self::Message(conversation.parse().ok()?, id.parse().ok()?))
            }
            ("poison-event", None) => Some(Self::PoisonEvent(ids.parse().ok()?)),
            ("parked-inbound", None) => Some(Self::ParkedInbound(ids.parse().ok()?)),
            ("failed-delivery", Some((conversation, ids))) => {
                let (message, n) = ids.split_once(':')?;
                Some(Self::FailedDelivery(
                    conversation.parse().ok()?,
                    message.parse().ok()?,
                    n.parse().ok()?,
                ))
            }
            ("participant", Some((conversation, id))) => Some(Self::Participant(
                conversation.parse().ok()?,
                id.parse().ok()?,
            )),
            _ => None,
        }
    }
}

/// An id that an argument names: the UUID as REST has it, or the end of a global id.
///
/// # Errors
/// 422 for what is no UUID at all.
pub fn named<T: FromStr>(argument: &str, id: &ID) -> Result<T, Problem> {
    let uuid = id.rsplit(':').next().unwrap_or_default();
    uuid.parse().map_err(|_| {
        Problem::field(
            format!("/{argument}"),
            "is neither a UUID nor the `id` of a node",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let (one, other) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
        for id in [
            GlobalId::Conversation(ConversationId::new(one)),
            GlobalId::Message(ConversationId::new(one), MessageId::new(other)),
            GlobalId::Participant(ConversationId::new(one), ParticipantId::new(other)),
            GlobalId::Identity(IdentityId::new(one)),
            GlobalId::FailedDelivery(ConversationId::new(one), MessageId::new(other), 7),
            GlobalId::PoisonEvent("07-12".parse().unwrap()),
            GlobalId::ParkedInbound(3),
        ] {
            assert_eq!(GlobalId::parse(&id.to_string()), Some(id));
        }
        for text in [
            "",
            "x",
            "message:",
            "message:1:2",
            "identity:x",
            "parked-inbound:x",
            "poison-event:1",
            "failed-delivery:00000000-0000-0000-0000-000000000001:00000000-0000-0000-0000-000000000001",
            "user:00000000-0000-0000-0000-000000000001",
        ] {
            assert_eq!(GlobalId::parse(text), None, "{text}");
        }
    }
}
