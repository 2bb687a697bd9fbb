use crate::message::Command;

/// Why a command on a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The author is not in the conversation.
    #[error("the author is not a participant of the conversation")]
    NotAParticipant,
    /// The id is taken by a message with another author or content.
    #[error("another message has this id already")]
    DifferentContent,
}

impl Command {
    /// The command's name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept(_) => "AcceptMessage",
        }
    }
}
