//! A conversation: who is in it, since when.

mod command;
mod decide;
mod event;
mod rejection;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, Member};
pub use event::{
    Event, Joined, JoinedPersonal, Kind, Left, Participant, Started, StartedPersonal, Who,
};
pub use rejection::Rejection;
pub use state::{Conversation, Present};

use uuid::Uuid;

use crate::ConversationId;
use crate::event::AggregateId;

/// The most participants a conversation can have at a time: with the longest account ids and title its start still fits
/// the log's limit of 256 KiB for a message.
pub const MAX_PARTICIPANTS: usize = 900;
/// The longest title, in Unicode scalar values.
pub const MAX_TITLE_CHARS: usize = 200;

impl AggregateId for ConversationId {
    fn path(&self) -> String {
        format!("conversation.{self}")
    }
    fn from_path(path: &str) -> Option<Self> {
        path.strip_prefix("conversation.")?.parse().ok()
    }
    fn partition_key(&self) -> Uuid {
        self.uuid()
    }
}
