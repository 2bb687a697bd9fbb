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
    /// Not on the log, because this number was the last of its chain; 0: the chain was empty.
    Refused { last: u32 },
    /// Nobody knows.
    Unknown,
}

/// One command: what it was for, what its caller was told, and when, by a clock that counts questions and answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// It asks for the next number of this chain.
    pub chain: String,
    pub asked: u64,
    pub answered: u64,
    pub told: Told,
}

/// One event on the log: which command it is from, which number of its chain it is, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnLog {
    pub command: String,
    pub number: u32,
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
    /// Refused with a last number that had been passed before the question: somebody had been told of a later one.
    pub stale: Vec<String>,
    /// Refused with a last number that nobody had asked for yet when the answer came.
    pub invented: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

pub fn check(told: &BTreeMap<String, Answer>, log: &[OnLog]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut found: BTreeMap<&str, Vec<&OnLog>> = BTreeMap::new();
    for event in log {
        found.entry(&event.command).or_default().push(event);
    }
    for (command, events) in &found {
        if events.len() > 1 {
            verdict.doubled.push((*command).to_owned());
        }
        match told.get(*command).map(|answer| &answer.told) {
            None => verdict.unasked.push((*command).to_owned()),
            Some(Told::NotStored | Told::Refused { .. }) => {
                verdict.denied.push((*command).to_owned());
            }
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
        .filter(|(_, answer)| matches!(answer.told, Told::Stored { .. }));
    let missing = stored.filter(|(command, _)| !found.contains_key(command.as_str()));
    verdict
        .missing
        .extend(missing.map(|(command, _)| command.clone()));
    refusals(told, &found, &mut verdict);
    verdict
}

/// A refusal names what was last. That must have been so at some moment between question and answer.
fn refusals(
    told: &BTreeMap<String, Answer>,
    found: &BTreeMap<&str, Vec<&OnLog>>,
    verdict: &mut Verdict,
) {
    let number = |command: &String| found.get(command.as_str()).map(|events| events[0].number);
    // By chain: since when somebody knew of a number, and since when somebody asked for it.
    let mut known: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    let mut asked: BTreeMap<(&str, u32), u64> = BTreeMap::new();
    for (command, answer) in told {
        let on_log = number(command);
        if let Some(number) = on_log {
            asked.insert((&answer.chain, number), answer.asked);
        }
        let heard = match answer.told {
            Told::Stored { .. } => on_log,
            Told::Refused { last } => Some(last),
            Told::NotStored | Told::Unknown => None,
        };
        let of_chain = known.entry(&answer.chain).or_default();
        of_chain.extend(heard.map(|number| (answer.answered, number)));
    }
    for (command, answer) in told {
        let Told::Refused { last } = answer.told else {
            continue;
        };
        let before = known[answer.chain.as_str()].iter();
        let before = before.filter(|(answered, _)| *answered < answer.asked);
        if before.clone().any(|(_, number)| *number > last) {
            verdict.stale.push(command.clone());
        }
        let since = asked.get(&(answer.chain.as_str(), last));
        if last > 0 && since.is_none_or(|since| *since > answer.answered) {
            verdict.invented.push(command.clone());
        }
    }
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

    /// Five are stored one after the other, in one chain; the sixth and the seventh are asked for after the third.
    fn run() -> (BTreeMap<String, Answer>, Vec<OnLog>) {
        let log: Vec<_> = (1..=5).map(|i| event(&format!("c{i}"), i)).collect();
        let mut told = BTreeMap::new();
        for event in &log {
            let told_so = Told::Stored {
                stream: event.stream.clone(),
                sequence: event.sequence,
            };
            let at = event.sequence * 10;
            told.insert(event.command.clone(), answer(at, at + 5, told_so));
        }
        told.insert("c6".into(), answer(36, 46, Told::NotStored));
        told.insert("c7".into(), answer(37, 47, Told::Unknown));
        (told, log)
    }

    fn event(command: &str, at: u64) -> OnLog {
        OnLog {
            command: command.into(),
            number: u32::try_from(at).unwrap(),
            stream: "EVT-00".into(),
            sequence: at,
        }
    }

    fn answer(asked: u64, answered: u64, told: Told) -> Answer {
        Answer {
            chain: "chain".into(),
            asked,
            answered,
            told,
        }
    }

    #[test]
    fn a_true_run_is_clean_whatever_became_of_the_unknown() {
        let (told, mut log) = run();
        assert!(check(&told, &log).is_clean());
        log.push(event("c7", 6));
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
        let (mut told, mut log) = run();
        told.insert("c8".into(), answer(41, 46, Told::Refused { last: 4 }));
        log.push(event("c6", 6));
        log.push(event("c8", 7));
        log.push(event("c9", 8));
        let verdict = check(&told, &log);
        assert_eq!(verdict.denied, ["c6", "c8"]);
        assert_eq!(verdict.unasked, ["c9"]);
    }

    /// Number 3 is asked for at 30 and told of at 35, number 4 from 40 to 45.
    #[test]
    fn a_refusal_with_what_was_not_last_at_any_moment_of_it_turns_it_red() {
        let refused = |asked, answered, last| {
            let (mut told, log) = run();
            let refusal = answer(asked, answered, Told::Refused { last });
            told.insert("refused".into(), refusal);
            let verdict = check(&told, &log);
            (verdict.stale.len(), verdict.invented.len())
        };
        // While 4 was under way either may have been last.
        assert_eq!(refused(36, 44, 3), (0, 0));
        assert_eq!(refused(36, 44, 4), (0, 0));
        // Who asks while it is, may still hear of 3; who asks when somebody knows of 4, may not.
        assert_eq!(refused(44, 49, 3), (0, 0));
        assert_eq!(refused(46, 49, 3), (1, 0));
        assert_eq!(refused(46, 49, 0), (1, 0));
        // Nobody had asked for 4, or for 5; and nobody ever asks for 9.
        assert_eq!(refused(36, 39, 4), (0, 1));
        assert_eq!(refused(36, 44, 5), (0, 1));
        assert_eq!(refused(46, 60, 9), (0, 1));
        assert_eq!(refused(1, 2, 0), (0, 0));
    }

    #[test]
    fn two_refusals_that_contradict_each_other_turn_it_red() {
        let (mut told, mut log) = run();
        // Number 6 is there, and who wanted it was told "unknown"; one refusal knows of it, a later one does not.
        log.push(event("c7", 6));
        told.insert("r1".into(), answer(60, 61, Told::Refused { last: 6 }));
        told.insert("r2".into(), answer(62, 63, Told::Refused { last: 5 }));
        assert_eq!(check(&told, &log).stale, ["r2"]);
    }

    #[test]
    fn chains_have_nothing_to_do_with_each_other() {
        let (mut told, log) = run();
        let mut other = answer(60, 61, Told::Refused { last: 0 });
        other.chain = "another chain".into();
        told.insert("other".into(), other);
        assert!(check(&told, &log).is_clean());
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
