//! How far a participant has read a conversation: one mark, which only moves forward.
//!
//! Small enough to be one file: one command, one event, one rule.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::event::AggregateId;
use crate::{ConversationId, MessageId, ParticipantId, Timestamp};

/// Names one participant's mark in one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Id {
    /// The conversation.
    pub conversation: ConversationId,
    /// Who reads.
    pub participant: ParticipantId,
}

impl AggregateId for Id {
    fn path(&self) -> String {
        format!("reader.{}.{}", self.conversation, self.participant)
    }
    fn from_path(path: &str) -> Option<Self> {
        let (conversation, participant) = path.strip_prefix("reader.")?.split_once('.')?;
        Some(Self {
            conversation: conversation.parse().ok()?,
            participant: participant.parse().ok()?,
        })
    }
    fn partition_key(&self) -> Uuid {
        self.conversation.uuid()
    }
}

/// What one may ask of a mark.
#[derive(Clone, Debug)]
pub enum Command {
    /// Everything up to this message has been seen.
    ReadUpTo {
        /// The last message seen.
        message: MessageId,
        /// Its place: the stream sequence at which it was accepted.
        sequence: u64,
        /// When it was seen.
        at: Timestamp,
    },
}

impl Command {
    /// The command's name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ReadUpTo { .. } => "ReadUpTo",
        }
    }
}

/// What can have happened to a mark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// It moved forward.
    #[serde(rename = "ReadUpTo")]
    ReadUpTo {
        /// Where to, when.
        facts: ReadUpTo,
    },
}

impl crate::Event for Event {
    const TYPES: &'static [(&'static str, u16)] = &[("ReadUpTo", 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::ReadUpTo { .. } => "ReadUpTo",
        }
    }

    fn read<'de, D: Deserializer<'de>>(
        name: &str,
        mut parts: crate::Parts<D>,
    ) -> Result<Self, D::Error> {
        Ok(match name {
            "ReadUpTo" => Self::ReadUpTo {
                facts: parts.facts()?,
            },
            _ => return Err(crate::event::unknown(name)),
        })
    }
}

crate::event::domain_event!(Event);

/// The facts of `ReadUpTo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadUpTo {
    /// The last message seen.
    pub message: MessageId,
    /// The stream sequence at which that message was accepted.
    pub sequence: u64,
    /// When it was seen.
    pub occurred_at: Timestamp,
}

/// A mark cannot be refused: one that is behind changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {}

/// How far the participant has read: the sequence of the last message seen, 0 for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// The stream sequence of the last message seen.
    pub up_to: u64,
}

impl Reader {
    /// What `command` means for this mark now: forward or nothing.
    ///
    /// # Errors
    /// None: [`Rejection`] has no values.
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        let Command::ReadUpTo {
            message,
            sequence,
            at,
        } = command;
        if *sequence <= self.up_to {
            return Ok(vec![]);
        }
        let facts = ReadUpTo {
            message: *message,
            sequence: *sequence,
            occurred_at: *at,
        };
        Ok(vec![Event::ReadUpTo { facts }])
    }

    /// This mark after `event`.
    #[must_use]
    pub fn evolve(self, event: &Event) -> Self {
        let Event::ReadUpTo { facts } = event;
        Self {
            up_to: self.up_to.max(facts.sequence),
        }
    }
}

crate::event::aggregate!(Reader, Id, Command, Event, Rejection, "reader");
