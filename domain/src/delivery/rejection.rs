use crate::delivery::{Command, Status};

/// Why a command on a delivery is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Somebody else has attempted it, or it does not exist in that form: look again before calling the provider.
    #[error("delivery {n} has seen attempt {last}; attempt {asked} cannot follow")]
    NotNext {
        /// Number of the delivery.
        n: u16,
        /// The last attempt made.
        last: u32,
        /// The attempt that was asked for.
        asked: u32,
    },
    /// It needs no attempt: it got through, or failed.
    #[error("delivery {n} is {status}, not PENDING")]
    NotPending {
        /// Number of the delivery.
        n: u16,
        /// What it is.
        status: Status,
    },
    /// A redrive that names nothing that failed.
    #[error("none of these deliveries has failed")]
    NothingFailed,
}

impl Command {
    /// The command's name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attempt { .. } => "AttemptDelivery",
            Self::RecordSent { .. } => "RecordSent",
            Self::RecordReceipt(_) => "RecordReceipt",
            Self::Fail { .. } => "FailDelivery",
            Self::Defer { .. } => "DeferDelivery",
            Self::Redrive { .. } => "RedriveDelivery",
            Self::RedriveFailure { .. } => "RedriveFailure",
        }
    }
}
