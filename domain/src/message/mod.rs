//! A message: accepted once, under one id, with the recipients it had then.

mod command;
mod decide;
mod event;
mod rejection;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Accept, Command, Recipient, Standing};
pub use event::{Accepted, AcceptedPersonal, Content, Event, Origin, PlannedDelivery};
pub use rejection::Rejection;
pub use state::Message;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::AggregateId;
use crate::{ConversationId, MessageId};

/// Names a message: always within its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Id {
    /// The conversation it is in.
    pub conversation: ConversationId,
    /// The message within it.
    pub message: MessageId,
}

impl AggregateId for Id {
    fn path(&self) -> String {
        format!("message.{}.{}", self.conversation, self.message)
    }
    fn from_path(path: &str) -> Option<Self> {
        let (conversation, message) = path.strip_prefix("message.")?.split_once('.')?;
        Some(Self {
            conversation: conversation.parse().ok()?,
            message: message.parse().ok()?,
        })
    }
    fn partition_key(&self) -> Uuid {
        self.conversation.uuid()
    }
}
