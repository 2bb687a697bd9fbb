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

/// Calls for a message that come after a call for a later one of the same lane. A lane's next message begins when the
/// outcome of the one before is on disk: what was left behind is never called again.
fn overtaken(calls: &[Call]) -> Vec<&Call> {
    let mut lanes = BTreeMap::<_, Lane>::new();
    let mut found = Vec::new();
    for call in calls {
        let of = call.reference_of();
        let lane = lanes.entry((of.conversation, &call.to)).or_default();
        if lane.now != of.message {
            lane.left.insert(std::mem::take(&mut lane.now));
            lane.now = of.message;
        }
        if lane.left.contains(&lane.now) {
            found.push(call);
        }
    }
    found
}

/// Nothing was called again behind a later message of its lane.
#[track_caller]
pub fn nobody_overtaken(calls: &[Call]) {
    let overtaken = overtaken(calls);
    assert!(
        overtaken.is_empty(),
        "called again after a later message of the same recipient: {overtaken:?}"
    );
}

/// One conversation's messages to one recipient.
#[derive(Default)]
struct Lane {
    now: String,
    left: BTreeSet<String>,
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

/// What was handed over again has to be what was in flight at one of these moments: when somebody died.
#[track_caller]
pub fn all_explained(repeats: &[Repeat], moments: &[InFlight]) {
    let bound: BTreeSet<_> = moments.iter().flat_map(InFlight::attempts).collect();
    println!(
        "{} repeated calls; {} attempts were in flight at {} moments",
        repeats.len(),
        bound.len(),
        moments.len()
    );
    let unexplained: Vec<_> = repeats
        .iter()
        .filter(|repeat| !bound.contains(&repeat.repeated))
        .collect();
    assert!(
        unexplained.is_empty(),
        "repeated although no attempt was in flight: {unexplained:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls for `<lane><message>.<attempt>`.
    fn calls(all: &[&str]) -> Vec<Call> {
        let call = |(at, name): (usize, &&str)| {
            let (message, attempt) = name.split_once('.').unwrap();
            Call {
                seq: at as u64,
                to: message[..1].to_owned(),
                text: message.to_owned(),
                provider_id: format!("wamid.{at}"),
                reference: format!("{}.{message}.0.{attempt}", &message[..1]),
                at_unix_ms: at as i64,
                latency_ms: 1,
            }
        };
        all.iter().enumerate().map(call).collect()
    }

    #[test]
    fn a_repetition_behind_a_later_message_of_its_lane_is_found() {
        let found = |all: &[&str]| {
            let calls = calls(all);
            let found = overtaken(&calls);
            found
                .iter()
                .map(|call| call.text.clone())
                .collect::<Vec<_>>()
        };
        assert!(found(&["a1.1", "a2.1", "b1.1", "a3.1", "b2.1"]).is_empty());
        // Repeated at once, as far as its lane is concerned.
        assert!(found(&["a1.1", "b1.1", "b2.1", "a1.2", "a1.3", "a2.1"]).is_empty());
        assert_eq!(found(&["a1.1", "a2.1", "a1.2"]), ["a1"]);
        assert_eq!(
            found(&["a1.1", "a2.1", "b1.1", "a3.1", "a2.2", "a3.2"]),
            ["a2", "a3"]
        );
    }

    #[test]
    fn each_repetition_names_the_attempt_whose_call_it_repeats() {
        let (firsts, repeats) = apart(&calls(&["a1.1", "b1.1", "a1.2", "a1.4", "a2.1"]));
        let firsts: Vec<_> = firsts.iter().map(|call| call.text.as_str()).collect();
        assert_eq!(firsts, ["a1", "b1", "a2"]);
        let repeated: Vec<_> = repeats
            .iter()
            .map(|repeat| repeat.repeated.clone())
            .collect();
        let attempt = |attempt| ("a1".to_owned(), 0, attempt);
        assert_eq!(repeated, [attempt(1), attempt(2)]);
    }
}
