//! Where a dead letter stands in the list, as opaque text: its kind, and what that kind is ordered by.

use std::fmt;
use std::str::FromStr;

use chat4all_domain::{Position, Timestamp};
use chat4all_postgres::read::{failed_deliveries, poison_events};

use super::{DeadLetter, Kind};
use crate::cursor::ParseCursorError;

/// Where a dead letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// `poison:<ms>:<position>`
    PoisonEvent(poison_events::Cursor),
    /// `parked:<sequence>`
    ParkedInbound(u64),
    /// `failed:<ms>:<conversation>:<message>:<n>`
    FailedDelivery(failed_deliveries::Cursor),
}

impl Cursor {
    /// The kind it stands in.
    pub const fn kind(self) -> Kind {
        match self {
            Self::PoisonEvent(_) => Kind::PoisonEvent,
            Self::ParkedInbound(_) => Kind::ParkedInbound,
            Self::FailedDelivery(_) => Kind::FailedDelivery,
        }
    }
    pub(super) fn of_poison_event(self) -> Option<poison_events::Cursor> {
        match self {
            Self::PoisonEvent(cursor) => Some(cursor),
            Self::ParkedInbound(_) | Self::FailedDelivery(_) => None,
        }
    }
    pub(super) fn of_parked_inbound(self) -> Option<u64> {
        match self {
            Self::ParkedInbound(sequence) => Some(sequence),
            Self::PoisonEvent(_) | Self::FailedDelivery(_) => None,
        }
    }
    pub(super) fn of_failed_delivery(self) -> Option<failed_deliveries::Cursor> {
        match self {
            Self::FailedDelivery(cursor) => Some(cursor),
            Self::PoisonEvent(_) | Self::ParkedInbound(_) => None,
        }
    }
}

impl From<&DeadLetter> for Cursor {
    fn from(letter: &DeadLetter) -> Self {
        match letter {
            DeadLetter::PoisonEvent(event) => Self::PoisonEvent(event.into()),
            DeadLetter::ParkedInbound(item) => Self::ParkedInbound(item.sequence),
            DeadLetter::FailedDelivery(delivery) => Self::FailedDelivery(delivery.into()),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoisonEvent(at) => {
                write!(f, "poison:{}:{}", at.recorded_at.unix_ms(), at.position)
            }
            Self::ParkedInbound(sequence) => write!(f, "parked:{sequence}"),
            Self::FailedDelivery(at) => {
                let (conversation, message, n) = at.key;
                let ms = at.failed_at.unix_ms();
                write!(f, "failed:{ms}:{conversation}:{message}:{n}")
            }
        }
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).ok_or(ParseCursorError)
    }
}

fn read(text: &str) -> Option<Cursor> {
    let parts: Vec<&str> = text.split(':').collect();
    match *parts {
        ["poison", ms, position] => Some(Cursor::PoisonEvent(poison_events::Cursor {
            recorded_at: moment(ms)?,
            position: position.parse::<Position>().ok()?,
        })),
        ["parked", sequence] => Some(Cursor::ParkedInbound(sequence.parse().ok()?)),
        ["failed", ms, conversation, message, n] => {
            Some(Cursor::FailedDelivery(failed_deliveries::Cursor {
                failed_at: moment(ms)?,
                key: (
                    conversation.parse().ok()?,
                    message.parse().ok()?,
                    n.parse().ok()?,
                ),
            }))
        }
        _ => None,
    }
}

fn moment(ms: &str) -> Option<Timestamp> {
    Some(Timestamp::from_unix_ms(ms.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        let id = "6f1c2f0e-77a1-4e0b-9d6e-6a5f0c4a11d1";
        for text in [
            "poison:1763787388123:07-12",
            "parked:18446744073709551615",
            &format!("failed:-1:{id}:{id}:65535"),
        ] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "parked",
            "parked:-1",
            "parked:1:2",
            "poison:x:07-12",
            "poison:1:x",
            &format!("failed:1:{id}:{id}:65536"),
            &format!("failed:1:{id}:x:1"),
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(ParseCursorError), "{text}");
        }
    }
}
