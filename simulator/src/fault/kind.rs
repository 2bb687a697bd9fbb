//! What can go wrong, one variant each, in the form the control API takes (`{"kind": "latency", "ms": [20, 80]}`).

use serde::{Deserialize, Serialize};

use crate::config::Millis;
use crate::phone::Step;

/// One fault. Every variant has braces, even empty ones: only so does serde refuse unknown fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The answer takes that long.
    Latency { ms: Millis },
    /// A documented error, in full; status and texts can be others.
    Error {
        code: u32,
        #[serde(default)]
        status: Option<u16>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        details: Option<String>,
        #[serde(default)]
        retry_after_s: Option<u32>,
    },
    /// A bare HTTP status, as a gateway in front of the API answers: 429, 502, …
    HttpStatus {
        status: u16,
        #[serde(default)]
        body: String,
        #[serde(default)]
        retry_after_s: Option<u32>,
    },
    /// The connection ends without an answer: with a reset, or orderly.
    Close {
        #[serde(default)]
        accepted: bool,
        #[serde(default = "yes")]
        reset: bool,
    },
    /// The answer never comes. By default the message was accepted, and its receipts do come.
    Hang {
        #[serde(default = "yes")]
        accepted: bool,
    },
    /// 200 with a body that is no JSON.
    MalformedAnswer {
        #[serde(default = "yes")]
        accepted: bool,
    },
    /// 200 with everything but the id of the message.
    MissingId {
        #[serde(default = "yes")]
        accepted: bool,
    },
    /// Each receipt comes so many times more.
    DuplicateReceipts {
        #[serde(default = "one")]
        copies: u32,
    },
    /// Receipts come in another order than things happened.
    ShuffledReceipts {},
    /// These receipts come before the call is answered.
    EarlyReceipts {
        #[serde(default = "sent")]
        steps: Vec<Step>,
    },
    /// These receipts never come, although the phone goes on.
    MissingReceipts { steps: Vec<Step> },
    /// Accepted, and then failed: at once, or after a step.
    FailedReceipt {
        code: u32,
        #[serde(default)]
        after: Option<Step>,
    },
    /// Read when the page shows it, not by itself.
    ReadWhenShown {},
    /// The provider is away: connections end at once, or hang.
    Outage { mode: OutageMode },
    /// 131047 unless the customer has written in within so many seconds.
    Window {
        #[serde(default = "a_day")]
        seconds: u64,
    },
    /// 131056 beyond a burst, then one message per interval. Source: 1 per 6 s, 45 may be borrowed.
    PairLimit {
        #[serde(default = "burst")]
        burst: u32,
        #[serde(default = "six_seconds")]
        every_ms: u64,
    },
    /// 130429 beyond so many messages in a second per business number. Source: 80 by default.
    Throughput {
        #[serde(default = "eighty")]
        per_second: u32,
    },
    /// 190: the token has expired.
    TokenExpired {},
}

/// How a provider can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutageMode {
    /// Connections are reset at once.
    Refused,
    /// Connections are taken, and nothing is ever answered.
    Hung,
}

fn yes() -> bool {
    true
}
fn one() -> u32 {
    1
}
fn sent() -> Vec<Step> {
    vec![Step::Sent]
}
fn a_day() -> u64 {
    24 * 3_600
}
fn burst() -> u32 {
    45
}
fn six_seconds() -> u64 {
    6_000
}
fn eighty() -> u32 {
    80
}

impl Fault {
    /// The name in the control API and in records.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Error { .. } => "error",
            Self::HttpStatus { .. } => "http_status",
            Self::Close { .. } => "close",
            Self::Hang { .. } => "hang",
            Self::MalformedAnswer { .. } => "malformed_answer",
            Self::MissingId { .. } => "missing_id",
            Self::DuplicateReceipts { .. } => "duplicate_receipts",
            Self::ShuffledReceipts {} => "shuffled_receipts",
            Self::EarlyReceipts { .. } => "early_receipts",
            Self::MissingReceipts { .. } => "missing_receipts",
            Self::FailedReceipt { .. } => "failed_receipt",
            Self::ReadWhenShown {} => "read_when_shown",
            Self::Outage { .. } => "outage",
            Self::Window { .. } => "window",
            Self::PairLimit { .. } => "pair_limit",
            Self::Throughput { .. } => "throughput",
            Self::TokenExpired {} => "token_expired",
        }
    }

    /// # Errors
    /// A sentence that names the field and what would be right.
    pub(super) fn validate(&self) -> Result<(), String> {
        let say = |good: bool, sentence: &str| {
            if good {
                Ok(())
            } else {
                Err(sentence.to_owned())
            }
        };
        match self {
            Self::Error { status, .. } => say(
                status.is_none_or(|status| (200..=599).contains(&status)),
                "fault.status: must be 200 to 599",
            ),
            Self::HttpStatus { status, .. } => say(
                (200..=599).contains(status),
                "fault.status: must be 200 to 599",
            ),
            Self::DuplicateReceipts { copies } => {
                say((1..=100).contains(copies), "fault.copies: must be 1 to 100")
            }
            Self::EarlyReceipts { steps } | Self::MissingReceipts { steps } => say(
                !steps.is_empty() && !steps.contains(&Step::Failed),
                "fault.steps: must name at least one of sent, delivered, read",
            ),
            Self::FailedReceipt { after, .. } => say(
                matches!(after, None | Some(Step::Sent | Step::Delivered)),
                "fault.after: must be sent or delivered",
            ),
            Self::PairLimit { burst, every_ms } => say(
                *burst >= 1 && *every_ms >= 1,
                "fault.burst, fault.every_ms: must be at least 1",
            ),
            Self::Throughput { per_second } => {
                say(*per_second >= 1, "fault.per_second: must be at least 1")
            }
            Self::Latency { .. }
            | Self::Close { .. }
            | Self::Hang { .. }
            | Self::MalformedAnswer { .. }
            | Self::MissingId { .. }
            | Self::ShuffledReceipts {}
            | Self::ReadWhenShown {}
            | Self::Outage { .. }
            | Self::Window { .. }
            | Self::TokenExpired {} => Ok(()),
        }
    }
}
