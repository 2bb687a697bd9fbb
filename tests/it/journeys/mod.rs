//! Whole journeys through `chat4all up`, as those see them who are not inside: clients over HTTP, customers on the
//! simulated phone, and an operator who reads the streams with any NATS client.

mod lag;
mod new_token;
mod postgres_away;
mod receive;
mod received;
mod redrive;
mod removed;
pub mod system;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Names of messages in their order, by conversation, sender or recipient.
type Messages = BTreeMap<String, Vec<String>>;

/// Missing, extra and order are three questions; a message twice is extra.
#[track_caller]
fn compare(place: &str, expected: &Messages, found: &Messages) {
    let ids = |all: &Messages| -> BTreeSet<(String, String)> {
        let named = |(key, names): (&String, &Vec<String>)| {
            let key = key.clone();
            names
                .clone()
                .into_iter()
                .map(move |name| (key.clone(), name))
        };
        all.iter().flat_map(named).collect()
    };
    let (wanted, there) = (ids(expected), ids(found));
    let missing: Vec<_> = wanted.difference(&there).collect();
    assert!(missing.is_empty(), "{place} misses {missing:?}");
    let extra: Vec<_> = there.difference(&wanted).collect();
    assert!(extra.is_empty(), "{place} has {extra:?} besides");
    let count: usize = found.values().map(Vec::len).sum();
    assert_eq!(count, there.len(), "{place} has a message twice");
    for (key, order) in expected {
        assert_eq!(found.get(key), Some(order), "{place}: the order of {key}");
    }
}

/// Waits until `reached` holds for what `look` sees; says what was seen last if it never does.
pub async fn until<T: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> T,
    reached: impl Fn(&T) -> bool,
) -> T {
    let began = Instant::now();
    loop {
        let seen = look().await;
        if reached(&seen) {
            return seen;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}; last seen: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

mod tests {
    use super::*;

    fn messages(names: &[&str]) -> Messages {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Messages::from([("c".to_owned(), names)])
    }

    fn complaint(found: &[&str]) -> String {
        let found = messages(found);
        let compared =
            std::panic::catch_unwind(|| compare("it", &messages(&["1", "2", "3"]), &found));
        *compared.unwrap_err().downcast::<String>().unwrap()
    }

    #[test]
    fn one_removed_one_added_one_doubled_and_two_swapped_are_noticed() {
        compare("it", &messages(&["1", "2"]), &messages(&["1", "2"]));
        assert!(complaint(&["1", "3"]).contains("misses"));
        assert!(complaint(&["1", "2", "3", "4"]).contains("besides"));
        assert!(complaint(&["1", "2", "2", "3"]).contains("twice"));
        assert!(complaint(&["2", "1", "3"]).contains("order"));
    }
}
