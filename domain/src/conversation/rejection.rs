use crate::conversation::Command;

/// Why a command on a conversation is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such conversation.
    #[error("there is no such conversation")]
    NotFound,
    /// The user who asks is not in it: to them it does not exist.
    #[error("who asks is not a participant of the conversation")]
    NotAParticipant,
    /// The id is taken by a conversation that was started with other content.
    #[error("another conversation has this id already")]
    DifferentContent,
    /// A conversation needs somebody in it.
    #[error("a conversation needs at least one participant besides who starts it")]
    Empty,
    /// More than fit.
    #[error("a conversation has at most {max} participants")]
    Full {
        /// The limit.
        max: usize,
    },
    /// More parties than a direct conversation has.
    #[error(
        "a direct conversation is with one outside address, or between two users; start a group instead"
    )]
    NotDirect,
    /// A direct conversation is what its two parties make it.
    #[error("a direct conversation keeps its parties; start a group instead")]
    DirectIsFixed,
}

impl Command {
    /// The command's name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "StartConversation",
            Self::Add { .. } => "AddParticipant",
            Self::Remove { .. } => "RemoveParticipant",
        }
    }
}
