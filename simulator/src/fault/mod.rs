//! The fault knobs: rules that say for which calls something goes wrong, and what.
//!
//! A rule holds for one customer's number, one business number, both, or every call; with a probability; and for the
//! next `count` calls it applies to, or for good. Rules are asked most specific first, then newest first. One rule at
//! most decides how a call is answered; what it does not decide (latency, receipts) others may add.

mod kind;
mod limits;
mod plan;

use serde::{Deserialize, Serialize};

pub(crate) use kind::{Fault, OutageMode};
use limits::Limits;
#[cfg(test)]
use plan::Plan;
pub(crate) use plan::{Answer, CallFacts, Gate, ReceiptFaults};

/// At most so many rules at a time: each call walks through them.
const MAX_RULES: usize = 1_000;

/// A rule as it is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// Only calls to this number (digits).
    #[serde(default)]
    to: Option<String>,
    /// Only calls from this business number.
    #[serde(default)]
    phone_number_id: Option<String>,
    /// 0 to 1.
    #[serde(default = "always")]
    probability: f64,
    /// Only the next so many calls it applies to. None: all.
    #[serde(default)]
    count: Option<u64>,
    fault: Fault,
}

fn always() -> f64 {
    1.0
}

/// A rule in force.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rule {
    id: u64,
    #[serde(flatten)]
    draft: Draft,
    /// How often it has applied.
    fired: u64,
}

impl Rule {
    fn specificity(&self) -> u8 {
        2 * u8::from(self.draft.to.is_some()) + u8::from(self.draft.phone_number_id.is_some())
    }
    fn concerns(&self, call: &CallFacts<'_>) -> bool {
        let to = self.draft.to.as_deref();
        let business = self.draft.phone_number_id.as_deref();
        self.draft.count.is_none_or(|count| self.fired < count)
            && (to.is_none() || to == call.to)
            && business.is_none_or(|id| id == call.phone_number_id)
    }
}

/// All rules, the state of the limits some of them watch, and the generator everything is drawn from.
pub(crate) struct Faults {
    rules: Vec<Rule>,
    next_id: u64,
    limits: Limits,
    pub(crate) rng: fastrand::Rng,
    seed: u64,
}

impl Faults {
    pub(crate) fn new(seed: u64, state_limit: usize) -> Self {
        Self {
            rules: Vec::new(),
            next_id: 1,
            limits: Limits::new(state_limit),
            rng: fastrand::Rng::with_seed(seed),
            seed,
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Draws from here on as a fresh simulator with that seed would.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.seed = seed;
        self.rng = fastrand::Rng::with_seed(seed);
    }

    /// Puts a rule in force.
    ///
    /// # Errors
    /// A sentence that names the field and what would be right.
    pub(crate) fn add(&mut self, mut draft: Draft) -> Result<Rule, String> {
        if self.rules.len() >= MAX_RULES {
            return Err(format!(
                "there are {MAX_RULES} rules already: delete some first"
            ));
        }
        if !(0.0..=1.0).contains(&draft.probability) {
            return Err("probability: must be 0 to 1".to_owned());
        }
        if draft.count == Some(0) {
            return Err("count: must be at least 1; leave it out for no limit".to_owned());
        }
        if let Some(to) = &draft.to {
            let digits = crate::graph::digits(to);
            draft.to = Some(digits.ok_or("to: must be a phone number")?);
        }
        draft.fault.validate()?;
        let rule = Rule {
            id: self.next_id,
            draft,
            fired: 0,
        };
        self.next_id += 1;
        // Most specific first, and newest first among equals.
        let place = self
            .rules
            .partition_point(|other| other.specificity() > rule.specificity());
        self.rules.insert(place, rule.clone());
        Ok(rule)
    }

    pub(crate) fn list(&self) -> Vec<Rule> {
        self.rules.clone()
    }

    /// True if there was one.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let before = self.rules.len();
        self.rules.retain(|rule| rule.id != id);
        self.rules.len() < before
    }

    /// Removes all rules and forgets what the limits have counted.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.limits.clear();
    }

    /// The customer wrote in: the window is open from now on.
    pub(crate) fn heard_from(&mut self, phone_number_id: &str, number: &str) {
        self.limits.heard_from(phone_number_id, number);
    }
}

#[cfg(test)]
mod tests;
