//! A provider that lets one business write to one customer only so often.

use chat4all_domain::delivery::{Event, FailureClass};
use chat4all_nats::Change;
use serde_json::json;

use super::site::by_number;
use crate::guarantees::system::{System, log_of, phone, until};

const BURST: usize = 45;
const EVERY_MS: i64 = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_beyond_what_one_customer_may_get_delays_that_customer_alone() {
    let system = System::start().await;
    let (busy, others) = (phone(0), (1..=20).map(phone).collect::<Vec<_>>());
    // Nothing more for an hour: what is looked at meanwhile does not depend on the time.
    let limit = json!({"kind": "pair_limit", "burst": BURST, "every_ms": 3_600_000});
    let limit = system.fault(json!({"to": busy, "fault": limit})).await;
    let group = system.group("ana", std::slice::from_ref(&busy)).await;
    let mut burst = Vec::new();
    for i in 0..BURST + 2 {
        burst.push(system.say("ana", &group, &format!("{i}")).await);
    }
    until(|| pair_waits(&system), |waits| *waits >= 1).await;
    let mut said = Vec::new();
    for (i, phone) in others.iter().enumerate() {
        let group = system.group("ana", std::slice::from_ref(phone)).await;
        said.push(system.say("ana", &group, &format!("to {i}")).await);
    }
    for accepted in &said {
        system.read("ana", accepted).await;
    }
    // Everybody else has read theirs, and the busy one is where the provider stopped it.
    let taken = by_number(&system.taken().await);
    let texts = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
    assert_eq!(taken[&busy], texts(BURST));
    assert_eq!(taken.len(), 1 + others.len());
    for accepted in &burst[BURST..] {
        let shown = system.message("ana", accepted).await;
        assert_eq!(shown["deliveries"][0]["status"], "PENDING", "{shown}");
    }
    system.repair(limit).await;
    for accepted in &burst {
        system.read("ana", accepted).await;
    }
    let taken = by_number(&system.taken().await);
    assert_eq!(taken[&busy], texts(BURST + 2), "in order, and none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_than_the_burst_arrives_when_the_provider_lets_it() {
    let system = System::start().await;
    let busy = phone(0);
    // 45 at once, then one in so long. (The provider's own six seconds may be over before the last is posted.)
    let limit = json!({"kind": "pair_limit", "burst": BURST, "every_ms": EVERY_MS});
    system.fault(json!({"to": busy, "fault": limit})).await;
    let group = system.group("ana", std::slice::from_ref(&busy)).await;
    let mut said = Vec::new();
    for i in 0..=BURST {
        said.push(system.say("ana", &group, &format!("{i}")).await);
    }
    for accepted in &said {
        system.read("ana", accepted).await;
    }
    let taken = system.taken().await;
    let (first, last) = (&taken[0], &taken[taken.len() - 1]);
    let apart = last.at_unix_ms - first.at_unix_ms;
    println!("the last {apart} ms after the first");
    assert!(apart >= EVERY_MS, "{apart} ms");
    assert!(pair_waits(&system).await >= 1, "nothing was refused");
    let texts: Vec<_> = (0..=BURST).map(|i| i.to_string()).collect();
    assert_eq!(by_number(&taken)[&busy], texts, "in order, and none twice");
}

/// How often a lane was told to wait for a pair.
async fn pair_waits(system: &System) -> usize {
    let log = log_of(&system.env).await;
    let events = log.into_iter().flat_map(|logged| match logged.change {
        Change::Delivery(_, events) => events,
        _ => vec![],
    });
    let waits = events.filter(|recorded| match &recorded.event {
        Event::Deferred { facts } => facts.class == FailureClass::Pair,
        _ => false,
    });
    waits.count()
}
