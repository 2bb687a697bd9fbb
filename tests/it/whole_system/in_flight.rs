//! Which attempts were in flight at a kill, by the log alone, and which calls repeat one.

use std::collections::{BTreeMap, BTreeSet};

use chat4all_domain::delivery::Event;
use chat4all_nats::Change;
use time::OffsetDateTime;

use crate::guarantees::system::{Call, Logged};

/// One attempt: message, number of the delivery, number of the attempt.
pub type Attempt = (String, u16, u32);

/// What `biz_opaque_callback_data` says.
#[derive(Clone, Debug)]
pub struct Of {
    pub conversation: String,
    pub message: String,
    pub n: u16,
    pub attempt: u32,
}

impl Call {
    /// Which attempt it was.
    pub fn reference_of(&self) -> Of {
        let parts: Vec<_> = self.reference.split('.').collect();
        let [conversation, message, n, attempt] = parts[..] else {
            panic!("no reference of ours: {}", self.reference);
        };
        Of {
            conversation: conversation.to_owned(),
            message: message.to_owned(),
            n: n.parse().unwrap(),
            attempt: attempt.parse().unwrap(),
        }
    }
}

/// A call that hands over again what was handed over before.
#[derive(Debug)]
pub struct Repeat {
    /// The attempt whose call it repeats.
    pub repeated: Attempt,
    /// The attempt it belongs to.
    #[expect(dead_code, reason = "printed when it is not explained")]
    pub by: u32,
}

/// The first call for each delivery, in the order of the calls, and the repetitions. One attempt makes one call.
pub fn apart(calls: &[Call]) -> (Vec<Call>, Vec<Repeat>) {
    let (mut firsts, mut repeats) = (Vec::new(), Vec::new());
    let mut last = BTreeMap::<_, u32>::new();
    for call in calls {
        let of = call.reference_of();
        match last.insert((of.message.clone(), of.n), of.attempt) {
            None => firsts.push(call.clone()),
            Some(before) => {
                assert!(before < of.attempt, "attempt {before}, and then {of:?}");
                repeats.push(Repeat {
                    repeated: (of.message, of.n, before),
                    by: of.attempt,
                });
            }
        }
    }
    (firsts, repeats)
}

/// The attempts that were on the log at some moment, and their outcome was not.
#[derive(Debug)]
pub struct InFlight(BTreeSet<Attempt>);

impl InFlight {
    /// As it was at `moment`, when somebody had just died who could have written more: the broker's times on the log are of
    /// the same clock.
    pub fn at(log: &[Logged], moment: OffsetDateTime) -> Self {
        let mut open = BTreeSet::new();
        for logged in log.iter().filter(|logged| logged.stored_at <= moment) {
            let Change::Delivery(id, events) = &logged.change else {
                continue;
            };
            for recorded in events {
                let (n, _) = recorded.event.key();
                let named = |attempt| (id.message.to_string(), n, attempt);
                match &recorded.event {
                    Event::Attempted { facts } => {
                        open.insert(named(facts.attempt));
                    }
                    Event::Sent { facts, .. } => {
                        open.remove(&named(facts.attempt));
                    }
                    Event::Delivered { facts } | Event::Read { facts } => {
                        open.remove(&named(facts.attempt));
                    }
                    Event::Failed { facts, .. } => {
                        open.remove(&named(facts.attempt));
                    }
                    Event::Deferred { facts } => {
                        open.remove(&named(facts.attempt));
                    }
                    Event::Redriven { .. } => {}
                }
            }
        }
        Self(open)
    }

    pub fn attempts(&self) -> impl Iterator<Item = Attempt> {
        self.0.iter().cloned()
    }
}
