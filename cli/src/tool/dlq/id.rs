//! What names a dead letter: the same text as its `id` in GraphQL.

use std::fmt;
use std::str::FromStr;

use chat4all_domain::{ConversationId, MessageId, Position};
use serde::{Serialize, Serializer};

use super::filter::Kind;

/// Names a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// `poison-event:<position>`
    PoisonEvent(Position),
    /// `parked-inbound:<sequence>`
    ParkedInbound(u64),
    /// `failed-delivery:<conversation>:<message>:<number>`
    FailedDelivery(ConversationId, MessageId, u16),
}

impl Id {
    /// Of what kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::PoisonEvent(_) => Kind::Poison,
            Self::ParkedInbound(_) => Kind::Parked,
            Self::FailedDelivery(..) => Kind::FailedDelivery,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoisonEvent(position) => write!(f, "poison-event:{position}"),
            Self::ParkedInbound(sequence) => write!(f, "parked-inbound:{sequence}"),
            Self::FailedDelivery(conversation, message, n) => {
                write!(f, "failed-delivery:{conversation}:{message}:{n}")
            }
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text names no dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a dead letter is failed-delivery:<conversation>:<message>:<number>, parked-inbound:<sequence> or \
     poison-event:<position>, as `chat4all dlq ls` shows it"
)]
pub struct ParseIdError;

impl FromStr for Id {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let read = || match parts[..] {
            ["poison-event", position] => Some(Self::PoisonEvent(position.parse().ok()?)),
            ["parked-inbound", sequence] => Some(Self::ParkedInbound(sequence.parse().ok()?)),
            ["failed-delivery", conversation, message, n] => Some(Self::FailedDelivery(
                conversation.parse().ok()?,
                message.parse().ok()?,
                n.parse().ok()?,
            )),
            _ => None,
        };
        read().ok_or(ParseIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let (one, other) = (
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000002",
        );
        for text in [
            "poison-event:07-12".to_owned(),
            "parked-inbound:3".to_owned(),
            format!("failed-delivery:{one}:{other}:7"),
        ] {
            let id: Id = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        for text in ["", "parked-inbound", "parked-inbound:x", "message:1:2"] {
            assert_eq!(text.parse::<Id>(), Err(ParseIdError), "{text}");
        }
    }
}
