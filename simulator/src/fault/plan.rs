//! From the rules to what happens to one call. All drawing is done here, in the order of arrival.

use std::time::{Duration, Instant};

use super::{Fault, Faults, OutageMode};
use crate::graph::GraphError;
use crate::phone::Step;

/// What a rule looks at.
#[derive(Clone, Copy)]
pub(crate) struct CallFacts<'a> {
    pub(crate) phone_number_id: &'a str,
    /// Digits, where the call names a customer.
    pub(crate) to: Option<&'a str>,
    /// A message, and not a mark: limits and receipts concern it.
    pub(crate) message: bool,
}

/// What happens before the call is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    Outage(OutageMode),
    TokenExpired,
}

/// How the call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As it should be.
    Regular,
    Error {
        error: GraphError,
        retry_after_s: Option<u32>,
    },
    HttpStatus {
        status: u16,
        body: String,
        retry_after_s: Option<u32>,
    },
    Close {
        accepted: bool,
        reset: bool,
    },
    Hang {
        accepted: bool,
    },
    Malformed {
        accepted: bool,
    },
    MissingId {
        accepted: bool,
    },
}

impl Answer {
    /// Whether the message is on its way, whatever the caller hears.
    pub(crate) const fn accepts(&self) -> bool {
        match self {
            Self::Regular => true,
            Self::Error { .. } | Self::HttpStatus { .. } => false,
            Self::Close { accepted, .. }
            | Self::Hang { accepted }
            | Self::Malformed { accepted }
            | Self::MissingId { accepted } => *accepted,
        }
    }
}

/// What happens to the receipts of an accepted message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiptFaults {
    pub(crate) copies: Option<u32>,
    pub(crate) shuffled: bool,
    pub(crate) early: Vec<Step>,
    pub(crate) missing: Vec<Step>,
    pub(crate) failed: Option<(u32, Option<Step>)>,
    pub(crate) read_when_shown: bool,
}

/// Everything that happens to one call that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) latency_ms: u64,
    pub(crate) answer: Answer,
    pub(crate) receipts: ReceiptFaults,
    /// Kinds of the faults that apply, for the record.
    pub(crate) applied: Vec<&'static str>,
}

impl Faults {
    /// What happens before the call is read. Names the fault for the record.
    pub(crate) fn gate(&mut self, call: CallFacts<'_>) -> (Gate, Option<&'static str>) {
        for at in 0..self.rules.len() {
            let gate = match self.rules[at].draft.fault {
                Fault::Outage { mode } => Gate::Outage(mode),
                Fault::TokenExpired {} => Gate::TokenExpired,
                _ => continue,
            };
            if self.fires(at, call) {
                return (gate, Some(self.rules[at].draft.fault.name()));
            }
        }
        (Gate::Open, None)
    }

    /// What happens to a call that is in order.
    pub(crate) fn plan(&mut self, call: CallFacts<'_>) -> Plan {
        let mut plan = Plan {
            latency_ms: 0,
            answer: Answer::Regular,
            receipts: ReceiptFaults::default(),
            applied: Vec::new(),
        };
        let mut latency_decided = false;
        for at in 0..self.rules.len() {
            let fault = self.rules[at].draft.fault.clone();
            let free = match &fault {
                Fault::Outage { .. } | Fault::TokenExpired {} => false,
                Fault::Latency { .. } => !latency_decided,
                Fault::DuplicateReceipts { .. } => call.message && plan.receipts.copies.is_none(),
                Fault::FailedReceipt { .. } => call.message && plan.receipts.failed.is_none(),
                Fault::ShuffledReceipts {}
                | Fault::EarlyReceipts { .. }
                | Fault::MissingReceipts { .. }
                | Fault::ReadWhenShown {} => call.message,
                Fault::Window { .. } | Fault::PairLimit { .. } | Fault::Throughput { .. } => {
                    call.message && plan.answer == Answer::Regular
                }
                Fault::Error { .. }
                | Fault::HttpStatus { .. }
                | Fault::Close { .. }
                | Fault::Hang { .. }
                | Fault::MalformedAnswer { .. }
                | Fault::MissingId { .. } => plan.answer == Answer::Regular,
            };
            if !free
                || !self.concerns(at, call)
                || self.within_limit(&fault, call)
                || !self.fires(at, call)
            {
                continue;
            }
            plan.applied.push(fault.name());
            latency_decided |= matches!(fault, Fault::Latency { .. });
            self.apply(fault, &mut plan);
        }
        plan
    }

    fn concerns(&self, at: usize, call: CallFacts<'_>) -> bool {
        self.rules[at].concerns(&call)
    }

    /// Rolls the rule's dice and counts.
    fn fires(&mut self, at: usize, call: CallFacts<'_>) -> bool {
        let rule = &mut self.rules[at];
        // A certain rule draws nothing: adding one does not change what others draw.
        let fires = rule.concerns(&call)
            && (rule.draft.probability >= 1.0 || self.rng.f64() < rule.draft.probability);
        rule.fired += u64::from(fires);
        fires
    }

    /// True for a limit that is kept: then nothing goes wrong.
    fn within_limit(&mut self, fault: &Fault, call: CallFacts<'_>) -> bool {
        let (id, to) = (call.phone_number_id, call.to.unwrap_or_default());
        let now = Instant::now();
        match *fault {
            Fault::Window { seconds } => {
                self.limits
                    .window_open(id, to, Duration::from_secs(seconds))
            }
            Fault::PairLimit { burst, every_ms } => {
                self.limits
                    .pair_allows(id, to, burst, Duration::from_millis(every_ms), now)
            }
            Fault::Throughput { per_second } => self.limits.throughput_allows(id, per_second, now),
            _ => false,
        }
    }

    fn apply(&mut self, fault: Fault, plan: &mut Plan) {
        let code = |code| Answer::Error {
            error: GraphError::of_code(code),
            retry_after_s: None,
        };
        match fault {
            Fault::Latency { ms } => plan.latency_ms = ms.draw(&mut self.rng),
            Fault::Error {
                code,
                status,
                message,
                details,
                retry_after_s,
            } => {
                let error = GraphError::of_code(code).changed(
                    status,
                    message.as_deref(),
                    details.as_deref(),
                );
                plan.answer = Answer::Error {
                    error,
                    retry_after_s,
                };
            }
            Fault::HttpStatus {
                status,
                body,
                retry_after_s,
            } => {
                plan.answer = Answer::HttpStatus {
                    status,
                    body,
                    retry_after_s,
                };
            }
            Fault::Close { accepted, reset } => plan.answer = Answer::Close { accepted, reset },
            Fault::Hang { accepted } => plan.answer = Answer::Hang { accepted },
            Fault::MalformedAnswer { accepted } => plan.answer = Answer::Malformed { accepted },
            Fault::MissingId { accepted } => plan.answer = Answer::MissingId { accepted },
            Fault::Window { .. } => plan.answer = code(131047),
            Fault::PairLimit { .. } => plan.answer = code(131056),
            Fault::Throughput { .. } => plan.answer = code(130429),
            Fault::DuplicateReceipts { copies } => plan.receipts.copies = Some(copies),
            Fault::ShuffledReceipts {} => plan.receipts.shuffled = true,
            Fault::EarlyReceipts { steps } => plan.receipts.early.extend(steps),
            Fault::MissingReceipts { steps } => plan.receipts.missing.extend(steps),
            Fault::FailedReceipt { code, after } => plan.receipts.failed = Some((code, after)),
            Fault::ReadWhenShown {} => plan.receipts.read_when_shown = true,
            Fault::Outage { .. } | Fault::TokenExpired {} => {}
        }
    }
}
