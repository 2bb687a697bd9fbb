use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::phone::Step;

fn faults(drafts: &[serde_json::Value]) -> Faults {
    let mut faults = Faults::new(7, 1_000);
    for draft in drafts {
        faults
            .add(serde_json::from_value(draft.clone()).unwrap())
            .unwrap();
    }
    faults
}

fn send(to: &str) -> CallFacts<'_> {
    CallFacts {
        phone_number_id: "1",
        to: Some(to),
        message: true,
    }
}

#[test]
fn the_most_specific_rule_answers_and_the_others_keep_their_count() {
    let mut faults = faults(&[
        json!({"to": "49151", "count": 1, "fault": {"kind": "error", "code": 131026}}),
        json!({"fault": {"kind": "error", "code": 131016}}),
        json!({"fault": {"kind": "latency", "ms": 40}}),
    ]);
    let codes = [0; 3].map(|_| match faults.plan(send("49151")) {
        Plan {
            answer: Answer::Error { error, .. },
            latency_ms: 40,
            ..
        } => error.code,
        other => panic!("{other:?}"),
    });
    assert_eq!(codes, [131026, 131016, 131016]);
    let fired: Vec<_> = faults.list().iter().map(|rule| rule.fired).collect();
    assert_eq!(fired, [1, 3, 2]);
}

#[test]
fn the_same_seed_draws_the_same() {
    let draw = |seed| {
        let mut faults = faults(&[json!({"probability": 0.5, "fault": {"kind": "missing_id"}})]);
        faults.reseed(seed);
        (0..64)
            .map(|_| faults.plan(send("49151")).answer.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    let missing = draw(3)
        .iter()
        .filter(|answer| **answer != Answer::Regular)
        .count();
    assert!((16..48).contains(&missing), "{missing} of 64");
}

#[test]
fn a_mark_meets_answers_but_no_limits_and_no_receipts() {
    let mut faults = faults(&[
        json!({"fault": {"kind": "window"}}),
        json!({"fault": {"kind": "missing_receipts", "steps": ["read"]}}),
        json!({"fault": {"kind": "hang"}}),
    ]);
    let plan = faults.plan(CallFacts {
        message: false,
        ..send("49151")
    });
    assert_eq!(plan.applied, ["hang"]);
}

#[test]
fn the_window_opens_for_the_pair_that_talked() {
    let mut faults = faults(&[json!({"fault": {"kind": "window"}})]);
    faults.heard_from("1", "49151");
    assert_eq!(faults.plan(send("49151")).answer, Answer::Regular);
    assert_ne!(faults.plan(send("49152")).answer, Answer::Regular);
}

#[test]
fn a_pair_may_burst_and_then_goes_at_its_rate() {
    let mut limits = limits::Limits::new(10);
    let (start, every) = (Instant::now(), Duration::from_secs(6));
    let mut allowed = |after_s| {
        let now = start + Duration::from_secs(after_s);
        (0..100)
            .filter(|_| limits.pair_allows("1", "49151", 45, every, now))
            .count()
    };
    assert_eq!(
        [allowed(0), allowed(5), allowed(6), allowed(18)],
        [45, 0, 1, 2]
    );
}

#[test]
fn a_business_number_sends_so_many_in_any_second() {
    let mut limits = limits::Limits::new(10);
    let start = Instant::now();
    let mut allowed = |after_ms| {
        let now = start + Duration::from_millis(after_ms);
        (0..100)
            .filter(|_| limits.throughput_allows("1", 80, now))
            .count()
    };
    assert_eq!([allowed(0), allowed(999), allowed(1_000)], [80, 0, 80]);
}

#[test]
fn receipts_compose() {
    let mut faults = faults(&[
        json!({"fault": {"kind": "duplicate_receipts", "copies": 2}}),
        json!({"fault": {"kind": "shuffled_receipts"}}),
        json!({"to": "49151", "fault": {"kind": "missing_receipts", "steps": ["sent"]}}),
    ]);
    let receipts = faults.plan(send("49151")).receipts;
    assert_eq!(
        (receipts.copies, receipts.shuffled, receipts.missing),
        (Some(2), true, vec![Step::Sent])
    );
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (draft, names) in [
        (
            json!({"fault": {"kind": "shuffled_receipts", "copies": 2}}),
            "copies",
        ),
        (
            json!({"fault": {"kind": "latency", "ms": 5, "mss": 5}}),
            "mss",
        ),
        (json!({"fault": {"kind": "rain"}}), "rain"),
        (
            json!({"to_number": "49151", "fault": {"kind": "hang"}}),
            "to_number",
        ),
    ] {
        let error = serde_json::from_value::<Draft>(draft)
            .unwrap_err()
            .to_string();
        assert!(error.contains(names), "{error}");
    }
}
