use std::fmt;

use crate::delivery::{FailureClass, Operation, Reason, SentPersonal};
use crate::{Timestamp, UserId};

/// What one may ask of a delivery. `op` and `n` name the entry.
#[derive(Clone, Debug)]
pub enum Command {
    /// I am about to call the provider. `attempt` must be the last one plus 1.
    Attempt {
        /// Number of the delivery.
        n: u16,
        /// What is delivered.
        op: Operation,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The worker.
        owner: String,
        /// When.
        at: Timestamp,
    },
    /// The provider took it.
    RecordSent {
        /// Number of the delivery.
        n: u16,
        /// What is delivered.
        op: Operation,
        /// The attempt that got through.
        attempt: u32,
        /// The provider's id of each part.
        parts: SentPersonal,
        /// When.
        at: Timestamp,
    },
    /// The provider told us later how it went on.
    RecordReceipt(Receipt),
    /// It will not arrive. `attempt` is the last one made.
    Fail {
        /// Number of the delivery.
        n: u16,
        /// What is delivered.
        op: Operation,
        /// The generation the caller decided in: another one's verdict does not count.
        generation: u32,
        /// The last attempt made; 0 when none was.
        attempt: u32,
        /// What kind of failure.
        class: FailureClass,
        /// Why.
        reason: Reason,
        /// The provider's error code.
        provider_code: Option<String>,
        /// The provider's own words.
        provider_text: Option<Words>,
        /// When.
        at: Timestamp,
    },
    /// It waits. `attempt` is the last one made.
    Defer {
        /// Number of the delivery.
        n: u16,
        /// What is delivered.
        op: Operation,
        /// The generation the caller decided in: another one's verdict does not count.
        generation: u32,
        /// The last attempt made; 0 when none was.
        attempt: u32,
        /// Not before.
        until: Timestamp,
        /// What kind of failure it waits after.
        class: FailureClass,
        /// Why.
        reason: Reason,
    },
    /// Try the failed ones again: those named, or all.
    Redrive {
        /// Numbers of deliveries; empty means every failed one.
        only: Vec<u16>,
        /// Who asks.
        by: UserId,
        /// When.
        at: Timestamp,
    },
    /// Try this one failure again. Whoever asks twice, or late, has no effect on a failure that came after it: a list of
    /// failures can be worked off from any place, by any number of workers, and each is redriven once.
    RedriveFailure {
        /// Number of the delivery.
        n: u16,
        /// The generation that failed.
        generation: u32,
        /// Who asks.
        by: UserId,
        /// When.
        at: Timestamp,
    },
}

/// A provider's report about one attempt.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Number of the delivery.
    pub n: u16,
    /// What was delivered.
    pub op: Operation,
    /// The attempt that the provider's id belongs to.
    pub attempt: u32,
    /// What it reports.
    pub step: Step,
    /// When, by the provider's clock.
    pub at: Timestamp,
}

/// What a receipt can report.
#[derive(Clone, Debug)]
pub enum Step {
    /// On its way.
    Sent,
    /// Arrived.
    Delivered,
    /// Seen.
    Read,
    /// Will not arrive.
    Failed {
        /// What kind of failure.
        class: FailureClass,
        /// Why.
        reason: Reason,
        /// The provider's error code.
        provider_code: Option<String>,
        /// The provider's own words.
        provider_text: Option<Words>,
    },
}

/// A provider's own words: may contain what is personal, so they are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(pub String);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
