//! Compares what callers were told with what is on the log. Knows nothing of the code under test: it takes both as plain
//! lists. Its own tests show that a single event removed, doubled or moved turns it red.

use std::collections::BTreeMap;

/// What a caller was told about one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// On the log, at this place.
    Stored { stream: String, sequence: u64 },
    /// Not on the log, and it never will be.
    NotStored,
    /// Nobody knows.
    Unknown,
}

/// One event on the log: which command it is from, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnLog {
    pub command: String,
    pub stream: String,
    pub sequence: u64,
}

/// Everything that is wrong; empty is right.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Told "stored", and not there.
    pub missing: Vec<String>,
    /// There more than once.
    pub doubled: Vec<String>,
    /// There, but not where the caller was told.
    pub elsewhere: Vec<String>,
    /// Told "not stored", and there.
    pub denied: Vec<String>,
    /// There, and nobody asked for it.
    pub unasked: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

pub fn check(told: &BTreeMap<String, Told>, log: &[OnLog]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut found: BTreeMap<&str, Vec<&OnLog>> = BTreeMap::new();
    for event in log {
        found.entry(&event.command).or_default().push(event);
    }
    for (command, events) in &found {
        if events.len() > 1 {
            verdict.doubled.push((*command).to_owned());
        }
        match told.get(*command) {
            None => verdict.unasked.push((*command).to_owned()),
            Some(Told::NotStored) => verdict.denied.push((*command).to_owned()),
            Some(Told::Stored { stream, sequence })
                if !events
                    .iter()
                    .any(|e| e.stream == *stream && e.sequence == *sequence) =>
            {
                verdict.elsewhere.push((*command).to_owned());
            }
            Some(Told::Stored { .. } | Told::Unknown) => {}
        }
    }
    let stored = told
        .iter()
        .filter(|(_, told)| matches!(told, Told::Stored { .. }));
    let missing = stored.filter(|(command, _)| !found.contains_key(command.as_str()));
    verdict
        .missing
        .extend(missing.map(|(command, _)| command.clone()));
    verdict
}

/// Whether a reader's fold is the stream: the same places with the same content, in the same order.
pub fn same_fold(stream: &[(u64, u64)], fold: &[(u64, u64)]) -> Result<(), String> {
    for (place, (expected, found)) in stream.iter().zip(fold).enumerate() {
        if expected != found {
            return Err(format!(
                "event {place}: the stream has {expected:?}, the reader {found:?}"
            ));
        }
    }
    if stream.len() == fold.len() {
        return Ok(());
    }
    Err(format!(
        "the stream has {} events, the reader {}",
        stream.len(),
        fold.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (BTreeMap<String, Told>, Vec<OnLog>) {
        let log: Vec<_> = (1..=5)
            .map(|i| OnLog {
                command: format!("c{i}"),
                stream: "EVT-00".into(),
                sequence: i,
            })
            .collect();
        let stored = |e: &OnLog| {
            (
                e.command.clone(),
                Told::Stored {
                    stream: e.stream.clone(),
                    sequence: e.sequence,
                },
            )
        };
        let mut told: BTreeMap<_, _> = log.iter().map(stored).collect();
        told.insert("c6".into(), Told::NotStored);
        told.insert("c7".into(), Told::Unknown);
        (told, log)
    }

    #[test]
    fn a_true_run_is_clean_whatever_became_of_the_unknown() {
        let (told, mut log) = run();
        assert!(check(&told, &log).is_clean());
        log.push(OnLog {
            command: "c7".into(),
            stream: "EVT-00".into(),
            sequence: 6,
        });
        assert!(check(&told, &log).is_clean());
    }

    #[test]
    fn one_event_removed_turns_it_red() {
        for removed in 0..5 {
            let (told, mut log) = run();
            let event = log.remove(removed);
            assert_eq!(check(&told, &log).missing, [event.command]);
        }
    }

    #[test]
    fn one_event_doubled_turns_it_red() {
        for doubled in 0..5 {
            let (told, mut log) = run();
            log.push(OnLog {
                sequence: 6,
                ..log[doubled].clone()
            });
            assert_eq!(check(&told, &log).doubled, [log[doubled].command.clone()]);
        }
    }

    #[test]
    fn two_events_swapped_turn_it_red() {
        for (one, other) in [(0, 1), (1, 4), (2, 3)] {
            let (told, mut log) = run();
            let place = log[one].sequence;
            log[one].sequence = log[other].sequence;
            log[other].sequence = place;
            assert_eq!(check(&told, &log).elsewhere.len(), 2);
        }
    }

    #[test]
    fn a_false_no_and_an_event_that_nobody_asked_for_turn_it_red() {
        let (told, mut log) = run();
        log.push(OnLog {
            command: "c6".into(),
            stream: "EVT-00".into(),
            sequence: 6,
        });
        log.push(OnLog {
            command: "c9".into(),
            stream: "EVT-00".into(),
            sequence: 7,
        });
        let verdict = check(&told, &log);
        assert_eq!(
            (verdict.denied, verdict.unasked),
            (vec!["c6".into()], vec!["c9".into()])
        );
    }

    #[test]
    fn a_fold_with_one_event_removed_doubled_or_two_swapped_is_red() {
        let stream: Vec<_> = (1..=9).map(|i| (i, i * 7)).collect();
        assert_eq!(same_fold(&stream, &stream), Ok(()));
        for at in 0..9 {
            let mut removed = stream.clone();
            removed.remove(at);
            assert!(same_fold(&stream, &removed).is_err());
            let mut doubled = stream.clone();
            doubled.insert(at, stream[at]);
            assert!(same_fold(&stream, &doubled).is_err());
            let mut swapped = stream.clone();
            swapped.swap(at, (at + 1) % 9);
            assert!(same_fold(&stream, &swapped).is_err());
        }
    }
}
