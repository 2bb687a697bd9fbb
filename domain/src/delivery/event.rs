use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Timestamp, UserId};

/// What can have happened to a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// A worker is about to call the provider: the fence between two owners, and the proof after a crash.
    #[serde(rename = "DeliveryAttempted")]
    Attempted {
        /// Which attempt, by whom.
        facts: Attempted,
    },
    /// The provider took it.
    #[serde(rename = "DeliverySent")]
    Sent {
        /// Which attempt, when.
        facts: Sent,
        /// The provider's ids.
        personal: SentPersonal,
    },
    /// It arrived on the recipient's device.
    #[serde(rename = "DeliveryDelivered")]
    Delivered {
        /// Which attempt, when.
        facts: DeliveredOrRead,
    },
    /// The recipient has seen it.
    #[serde(rename = "DeliveryRead")]
    Read {
        /// Which attempt, when.
        facts: DeliveredOrRead,
    },
    /// It will not arrive, unless somebody redrives it.
    #[serde(rename = "DeliveryFailed")]
    Failed {
        /// Which attempt, why.
        facts: Failed,
        /// The provider's own words.
        personal: FailedPersonal,
    },
    /// It waits: the next attempt is not before `until`.
    #[serde(rename = "DeliveryDeferred")]
    Deferred {
        /// Until when, why.
        facts: Deferred,
    },
    /// Somebody asked to try again after a failure.
    #[serde(rename = "DeliveryRedriven")]
    Redriven {
        /// Which one, by whom.
        facts: Redriven,
    },
}

impl crate::Event for Event {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("DeliveryAttempted", 1),
        ("DeliverySent", 1),
        ("DeliveryDelivered", 1),
        ("DeliveryRead", 1),
        ("DeliveryFailed", 1),
        ("DeliveryDeferred", 1),
        ("DeliveryRedriven", 1),
    ];

    fn name(&self) -> &'static str {
        match self {
            Self::Attempted { .. } => "DeliveryAttempted",
            Self::Sent { .. } => "DeliverySent",
            Self::Delivered { .. } => "DeliveryDelivered",
            Self::Read { .. } => "DeliveryRead",
            Self::Failed { .. } => "DeliveryFailed",
            Self::Deferred { .. } => "DeliveryDeferred",
            Self::Redriven { .. } => "DeliveryRedriven",
        }
    }

    fn read<'de, D: Deserializer<'de>>(
        name: &str,
        mut parts: crate::Parts<D>,
    ) -> Result<Self, D::Error> {
        Ok(match name {
            "DeliveryAttempted" => Self::Attempted {
                facts: parts.facts()?,
            },
            "DeliverySent" => Self::Sent {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            "DeliveryDelivered" => Self::Delivered {
                facts: parts.facts()?,
            },
            "DeliveryRead" => Self::Read {
                facts: parts.facts()?,
            },
            "DeliveryFailed" => Self::Failed {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            "DeliveryDeferred" => Self::Deferred {
                facts: parts.facts()?,
            },
            "DeliveryRedriven" => Self::Redriven {
                facts: parts.facts()?,
            },
            _ => return Err(crate::event::unknown(name)),
        })
    }
}

crate::event::domain_event!(Event);

impl Event {
    /// Which entry this is about.
    pub const fn key(&self) -> (u16, Operation) {
        match self {
            Self::Attempted { facts } => (facts.n, facts.op),
            Self::Sent { facts, .. } => (facts.n, facts.op),
            Self::Delivered { facts } | Self::Read { facts } => (facts.n, facts.op),
            Self::Failed { facts, .. } => (facts.n, facts.op),
            Self::Deferred { facts } => (facts.n, facts.op),
            Self::Redriven { facts } => (facts.n, facts.op),
        }
    }
}

/// What is being delivered. Entries are keyed by `(n, operation)`, so that edits can join without moving what is there.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// The message itself.
    #[default]
    Send,
}

/// The facts of `DeliveryAttempted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// Number of the delivery within the message.
    pub n: u16,
    /// What is delivered.
    pub op: Operation,
    /// Number of the attempt, from 1, counted on through redrives.
    pub attempt: u32,
    /// The worker that makes it.
    pub owner: String,
    /// When.
    pub occurred_at: Timestamp,
}

/// The facts of `DeliverySent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Number of the delivery within the message.
    pub n: u16,
    /// What is delivered.
    pub op: Operation,
    /// The attempt that got through.
    pub attempt: u32,
    /// When the provider took it.
    pub occurred_at: Timestamp,
}

/// The personal part of `DeliverySent`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPersonal {
    /// The provider's id of each part it was sent in. Empty when only a receipt told us that it was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
}

impl fmt::Debug for SentPersonal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentPersonal({} parts, ***)", self.parts.len())
    }
}

/// The facts of `DeliveryDelivered` and `DeliveryRead`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredOrRead {
    /// Number of the delivery within the message.
    pub n: u16,
    /// What was delivered.
    pub op: Operation,
    /// The attempt that the receipt is for.
    pub attempt: u32,
    /// When, by the provider's clock.
    pub occurred_at: Timestamp,
}

/// The facts of `DeliveryFailed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Number of the delivery within the message.
    pub n: u16,
    /// What was delivered.
    pub op: Operation,
    /// The last attempt made; 0 when none was.
    pub attempt: u32,
    /// What kind of failure it was.
    pub class: FailureClass,
    /// Why, in our vocabulary.
    pub reason: Reason,
    /// The provider's error code, as it stands in its answer (`131026`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<String>,
    /// When, by the clock of whoever noticed.
    pub occurred_at: Timestamp,
}

/// The personal part of `DeliveryFailed`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPersonal {
    /// The provider's own words; they may contain the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_text: Option<String>,
}

impl fmt::Debug for FailedPersonal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailedPersonal(***)")
    }
}

/// The facts of `DeliveryDeferred`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferred {
    /// Number of the delivery within the message.
    pub n: u16,
    /// What is delivered.
    pub op: Operation,
    /// The last attempt made; 0 when none was.
    pub attempt: u32,
    /// The next attempt is not before this moment.
    pub until: Timestamp,
    /// What kind of failure it waits after.
    pub class: FailureClass,
    /// Why, in our vocabulary.
    pub reason: Reason,
}

/// The facts of `DeliveryRedriven`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// Number of the delivery within the message.
    pub n: u16,
    /// What is delivered.
    pub op: Operation,
    /// The generation this opens; the first try was generation 0.
    pub generation: u32,
    /// Who asked for it.
    pub by: UserId,
    /// When.
    pub occurred_at: Timestamp,
}

/// What kind of failure it was; decides what happens next. Which provider code means which class is each channel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureClass {
    /// The account is sending too fast: it pauses.
    Rate,
    /// This recipient is getting too much: their lane pauses.
    Pair,
    /// The provider stumbled: try again later.
    Transient,
    /// The call's outcome is not known.
    Unsure,
    /// Not before tomorrow.
    #[serde(rename = "LATER_24H")]
    Later24h,
    /// Somebody must repair the account: its queue is held.
    Operator,
    /// The provider understood, and said no.
    Permanent,
    /// The recipient does not want it.
    Stopped,
    /// Outside the window in which free text is allowed.
    Window,
    /// It may pass in a simpler form.
    Degrade,
}

/// Why a delivery failed or waits, in one vocabulary for every channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the words are their own description; docs/operations.md lists what to do about each"
)]
pub enum Reason {
    RateLimited,
    RecipientInvalidChannelIdentity,
    RecipientNotReachable,
    RecipientNotOptedIn,
    OutsideAllowedSendingWindow,
    ChannelFailure,
    ChannelBadConfiguration,
    ChannelConfigurationMissing,
    MediaTypeUnsupported,
    MediaTooLarge,
    MediaNotReachable,
    TemplateInvalid,
    TemplateUnavailable,
    MessageExpired,
    MessageInvalid,
    InactiveCredential,
    InternalError,
    Unknown,
}
