use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::delivery::{Event, FailureClass, Operation, Reason};

/// What the deliveries' events add up to. One without an entry is PENDING and was never attempted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Sorted by number and operation. A list, because JSON has no maps with such keys.
    #[serde(with = "entries_as_list")]
    entries: BTreeMap<(u16, Operation), Entry>,
}

/// One delivery's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// How often it was redriven.
    pub generation: u32,
    /// The first attempt that belongs to this generation.
    pub first_attempt: u32,
    /// The last attempt made; 0 when none was.
    pub attempts: u32,
    /// The attempt that has no outcome yet, and who made it.
    pub in_flight: Option<(u32, String)>,
    /// The next attempt is not before this moment.
    pub deferred_until: Option<Timestamp>,
    /// When the provider took it.
    pub sent_at: Option<Timestamp>,
    /// The attempt that made it SENT, the first known to: only its failure is the delivery's.
    #[serde(default)]
    pub sent_by: Option<u32>,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
    /// When it was seen.
    pub read_at: Option<Timestamp>,
    /// Why it failed, unless it arrived all the same.
    pub failed: Option<Failure>,
    /// The attempts whose provider ids are on the log.
    pub referenced: Vec<u32>,
}

/// Why a delivery failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub class: FailureClass,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: Timestamp,
}

/// What a delivery's steps add up to, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Not handed over yet.
    Pending,
    /// The provider took it.
    Sent,
    /// Will not arrive, unless redriven. Beats SENT, and is beaten by an arrival.
    Failed,
    /// Arrived.
    Delivered,
    /// Seen.
    Read,
}

impl Status {
    /// `PENDING`, `SENT`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Delivered => "DELIVERED",
            Self::Read => "READ",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Entry {
    /// What the known steps add up to. READ implies the earlier ones.
    pub const fn status(&self) -> Status {
        if self.read_at.is_some() {
            Status::Read
        } else if self.delivered_at.is_some() {
            Status::Delivered
        } else if self.failed.is_some() {
            Status::Failed
        } else if self.sent_at.is_some() {
            Status::Sent
        } else {
            Status::Pending
        }
    }
}

impl Delivery {
    /// The entry of delivery `n`; one that was never touched for a delivery without events.
    pub fn entry(&self, n: u16, op: Operation) -> Entry {
        self.entries.get(&(n, op)).cloned().unwrap_or_default()
    }
    /// Every delivery that has events, lowest number first.
    pub fn entries(&self) -> impl Iterator<Item = (u16, Operation, &Entry)> {
        self.entries.iter().map(|((n, op), entry)| (*n, *op, entry))
    }

    /// This state after `event`. Total: an event that cannot follow changes nothing that matters.
    #[must_use]
    pub fn evolve(mut self, event: &Event) -> Self {
        let entry = self.entries.entry(event.key()).or_default();
        match event {
            Event::Attempted { facts } => {
                entry.attempts = facts.attempt;
                entry.in_flight = Some((facts.attempt, facts.owner.clone()));
                entry.deferred_until = None;
            }
            Event::Sent { facts, personal } => {
                if !personal.parts.is_empty() {
                    entry.referenced.push(facts.attempt);
                }
                // An earlier generation's attempt brings its ids, but is no news about this one.
                if facts.attempt >= entry.first_attempt {
                    entry.sent_at.get_or_insert(facts.occurred_at);
                    entry.sent_by.get_or_insert(facts.attempt);
                    entry.settle();
                }
            }
            Event::Delivered { facts } => {
                entry.delivered_at.get_or_insert(facts.occurred_at);
                entry.arrive();
            }
            Event::Read { facts } => {
                entry.read_at.get_or_insert(facts.occurred_at);
                entry.arrive();
            }
            Event::Failed { facts, .. } => {
                if entry.status() < Status::Failed {
                    let (class, reason, at) = (facts.class, facts.reason, facts.occurred_at);
                    entry.failed = Some(Failure { class, reason, at });
                }
                entry.settle();
            }
            Event::Deferred { facts } => {
                entry.settle();
                entry.deferred_until = Some(facts.until);
            }
            Event::Redriven { facts } => {
                *entry = Entry {
                    generation: facts.generation,
                    first_attempt: entry.attempts.saturating_add(1),
                    attempts: entry.attempts,
                    referenced: std::mem::take(&mut entry.referenced),
                    ..Entry::default()
                };
            }
        }
        self
    }
}

impl Entry {
    /// The attempt whose failure is the delivery's: the one that got through as far as we know, else the last one made.
    pub(super) fn counts(&self) -> u32 {
        self.sent_by.unwrap_or(self.attempts)
    }
    /// An outcome is known: nothing is in flight, nothing waits.
    fn settle(&mut self) {
        self.in_flight = None;
        self.deferred_until = None;
    }
    /// It arrived: whatever failed before does not matter any more.
    fn arrive(&mut self) {
        self.failed = None;
        self.settle();
    }
}

mod entries_as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Entry, Operation};

    type Entries = BTreeMap<(u16, Operation), Entry>;

    pub fn serialize<S: Serializer>(entries: &Entries, serializer: S) -> Result<S::Ok, S::Error> {
        entries.iter().collect::<Vec<_>>().serialize(serializer)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        Ok(Vec::<((u16, Operation), Entry)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
