//! The deliveries of one message through one kind of channel: what was tried, what came of it, what the provider told us.
//!
//! Each delivery (numbered `n`, as planned by the message) keeps at most one time per step of the current generation.
//! Steps may be reported doubled, late, early or in any order; the status is what they add up to:
//! `PENDING < SENT < FAILED < DELIVERED < READ`, the highest one known. So a late `sent` never undoes `read`, and a
//! receipt of arrival beats a failure. A redrive opens a new generation: a late failure of the old one does not fail the
//! new, while an arrival of the old one completes it.

mod command;
mod decide;
mod event;
mod rejection;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, Receipt, Step, Words};
pub use event::{
    Attempted, Deferred, DeliveredOrRead, Event, Failed, FailedPersonal, FailureClass, Operation,
    Reason, Redriven, Sent, SentPersonal,
};
pub use rejection::Rejection;
pub use state::{Delivery, Entry, Failure, Status};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::AggregateId;
use crate::{ChannelKind, ConversationId, MessageId};

/// Names the deliveries of one message through one kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Id {
    /// The kind of channel: only its bridge and its receipts write here.
    pub kind: ChannelKind,
    /// The conversation of the message.
    pub conversation: ConversationId,
    /// The message.
    pub message: MessageId,
}

impl AggregateId for Id {
    fn path(&self) -> String {
        format!(
            "delivery.{}.{}.{}",
            self.kind, self.conversation, self.message
        )
    }
    fn from_path(path: &str) -> Option<Self> {
        let mut tokens = path.strip_prefix("delivery.")?.splitn(3, '.');
        Some(Self {
            kind: tokens.next()?.parse().ok()?,
            conversation: tokens.next()?.parse().ok()?,
            message: tokens.next()?.parse().ok()?,
        })
    }
    fn partition_key(&self) -> Uuid {
        self.conversation.uuid()
    }
}
