//! A group of two hundred: one message is two hundred deliveries, and somebody whom the provider will not serve now delays
//! nobody else.

use std::collections::BTreeMap;

use chat4all_domain::delivery::{Event, FailureClass};
use chat4all_nats::Change;
use serde_json::{Value, json};

use super::system::{Answer, System, log_of, phone, until};

const RECIPIENTS: usize = 200;
const TEXTS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// What happened to a recipient's deliveries, over all messages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Happened {
    attempted: usize,
    sent: usize,
    delivered: usize,
    read: usize,
    deferred: Vec<FailureClass>,
    failed: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn one_paused_recipient_of_two_hundred_delays_nobody_else_and_gets_everything_in_order() {
    let system = System::start().await;
    let phones: Vec<_> = (0..RECIPIENTS).map(phone).collect();
    let paused = &phones[77];
    let group = system.group("ana", &phones).await;
    // Receipts are doubled and out of order all the while.
    let doubled = json!({"fault": {"kind": "duplicate_receipts"}});
    system.fault(doubled).await;
    system
        .fault(json!({"fault": {"kind": "shuffled_receipts"}}))
        .await;
    // Too much for this one: "pair rate limit hit".
    let limit = json!({"to": paused, "fault": {"kind": "error", "code": 131_056}});
    let limit = system.fault(limit).await;

    let first = system.say("ana", &group, TEXTS[0]).await;
    let shown = system.message("ana", &first).await;
    assert_eq!(shown["deliveries"].as_array().unwrap().len(), RECIPIENTS);
    let mut accepted = vec![first];
    for text in &TEXTS[1..] {
        accepted.push(system.say("ana", &group, text).await);
    }

    // Everybody else has read everything while the one still waits for the first.
    for one in &accepted {
        let look = || counts(&system, one);
        let seen = until(look, |counts| counts["read"] == RECIPIENTS - 1).await;
        assert_eq!(seen["pending"], 1, "{seen}");
    }
    let waiting = deliveries(&system, &accepted, paused).await;
    assert!(waiting[0]["attempts"].as_u64() > Some(0), "{}", waiting[0]);
    assert_eq!(waiting[0]["failure_class"], "PAIR");
    for (delivery, text) in waiting.iter().zip(TEXTS) {
        assert_eq!(delivery["status"], "PENDING", "{text}");
    }
    for delivery in &waiting[1..] {
        assert_eq!(delivery["attempts"], 0, "it overtook: {delivery}");
    }
    let taken = system.taken().await;
    assert_eq!(taken.len(), (RECIPIENTS - 1) * TEXTS.len());
    assert!(taken.iter().all(|call| call.to != *paused));

    system.repair(limit).await;
    for one in &accepted {
        let shown = system.read("ana", one).await;
        assert_eq!(shown["status"], "READ");
        let shown = shown["deliveries"].as_array().unwrap();
        assert_eq!(shown.len(), RECIPIENTS);
        for delivery in shown {
            for step in ["sent_at", "delivered_at", "read_at"] {
                assert!(delivery[step].is_string(), "no {step}: {delivery}");
            }
        }
    }
    // What the provider was given: for each recipient the same five, once each, in order.
    let mut given = BTreeMap::<_, Vec<_>>::new();
    for call in system.taken().await {
        given.entry(call.to).or_default().push(call.text);
    }
    assert_eq!(given.len(), RECIPIENTS);
    for (to, texts) in &given {
        assert_eq!(texts, &TEXTS, "{to}");
    }
    // And what the log says of it: nothing is there twice, whatever was reported twice.
    let happened = on_the_log(&system, &group).await;
    assert_eq!(happened.len(), RECIPIENTS);
    let each = TEXTS.len();
    let numbers: Vec<_> = waiting.iter().map(|it| it["number"].as_u64()).collect();
    for (n, mut seen) in happened {
        if numbers == [Some(u64::from(n)); TEXTS.len()] {
            assert!(!seen.deferred.is_empty());
            assert!(seen.deferred.iter().all(|it| *it == FailureClass::Pair));
            assert_eq!(seen.attempted, each + seen.deferred.len(), "{seen:?}");
            (seen.attempted, seen.deferred) = (each, vec![]);
        }
        let once = Happened {
            attempted: each,
            sent: each,
            delivered: each,
            read: each,
            ..Happened::default()
        };
        assert_eq!(seen, once, "delivery {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_for_whom_the_provider_never_answers_delays_nobody_else_either() {
    let system = System::start().await;
    let phones: Vec<_> = (0..RECIPIENTS).map(phone).collect();
    let silent = &phones[123];
    let group = system.group("ana", &phones).await;
    let hung = json!({"to": silent, "fault": {"kind": "outage", "mode": "hung"}});
    let hung = system.fault(hung).await;
    let mut accepted = Vec::new();
    for text in TEXTS {
        accepted.push(system.say("ana", &group, text).await);
    }
    for one in &accepted {
        let look = || counts(&system, one);
        until(look, |counts| counts["read"] == RECIPIENTS - 1).await;
    }
    let waiting = deliveries(&system, &accepted, silent).await;
    for (i, delivery) in waiting.iter().enumerate() {
        let attempted = delivery["attempts"] != 0;
        assert_eq!(
            (&delivery["status"], attempted),
            (&json!("PENDING"), i == 0)
        );
    }
    system.repair(hung).await;
    for one in &accepted {
        system.read("ana", one).await;
    }
    let mut given = system.taken().await;
    assert_eq!(given.len(), RECIPIENTS * TEXTS.len(), "nothing twice");
    given.retain(|call| call.to == *silent);
    assert_eq!(
        given.iter().map(|call| &call.text).collect::<Vec<_>>(),
        TEXTS
    );
}

async fn counts(system: &System, accepted: &Answer) -> Value {
    system.message("ana", accepted).await["delivery_counts"].take()
}

/// That recipient's delivery of each message.
async fn deliveries(system: &System, accepted: &[Answer], phone: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for one in accepted {
        let message = system.message("ana", one).await;
        let mut all = message["deliveries"].as_array().unwrap().iter();
        let mine = all.find(|delivery| delivery["address"] == phone);
        found.push(mine.unwrap().clone());
    }
    found
}

/// What happened to each recipient's deliveries, by their number in the messages.
async fn on_the_log(system: &System, group: &str) -> BTreeMap<u16, Happened> {
    let mut found = BTreeMap::<_, Happened>::new();
    for logged in log_of(&system.env).await {
        let Change::Delivery(id, events) = logged.change else {
            continue;
        };
        if id.conversation.to_string() != group {
            continue;
        }
        for recorded in events {
            let (n, _) = recorded.event.key();
            let happened = found.entry(n).or_default();
            match recorded.event {
                Event::Attempted { .. } => happened.attempted += 1,
                Event::Sent { .. } => happened.sent += 1,
                Event::Delivered { .. } => happened.delivered += 1,
                Event::Read { .. } => happened.read += 1,
                Event::Deferred { facts } => happened.deferred.push(facts.class),
                Event::Failed { .. } | Event::Redriven { .. } => happened.failed += 1,
            }
        }
    }
    found
}
