//! Whoever works on a redrive is killed in the middle, and so is the broker.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::scene::{all_got, dlq, failed, is_done, job, lines, listed, redriven_on_the_log};
use crate::guarantees::system::{System, phone, until};
use crate::support::up::send;

const EACH: usize = 100;

fn moment(told: &serde_json::Value) -> OffsetDateTime {
    let told = told.as_str().unwrap();
    OffsetDateTime::parse(told, &Rfc3339).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redrive_whose_worker_and_broker_are_killed_redrives_each_failure_once_and_in_order() {
    let system = System::split().await;
    let phones = [phone(1), phone(2), phone(3)];
    let expected = failed(&system, &phones, EACH).await;
    let handed = dlq(&system, &["redrive", "--all", "--rate", "40/s", "--detach"]).await;
    assert_eq!(handed["total"], json!(3 * EACH));
    let id = &handed["id"];
    let looks_on = ["jobs", id.as_str().unwrap(), "--watch"];
    let kills = async {
        for (victim, at) in [("bridges", 60), ("bridges", 140), ("nats-server", 220)] {
            job(&system, id, |job| job["done"].as_u64() >= Some(at)).await;
            send(system.process(victim).unwrap(), Signal::KILL);
        }
    };
    // Whoever looks on goes on looking, too.
    let (seen, ()) = tokio::join!(lines(&system, &looks_on), kills);
    let places: Vec<_> = seen.iter().map(|job| job["done"].as_u64()).collect();
    assert!(places.is_sorted(), "{places:?}");
    // It takes more than seven seconds, and is looked at twice in each.
    let different: BTreeSet<_> = places.iter().collect();
    assert!(different.len() > 3, "{places:?}");
    let done = seen.last().unwrap();
    assert!(is_done(done), "{done}");
    // Those that a killed worker had no time to note count as skipped: they were redriven all the same.
    let sum = |field: &str| done[field].as_u64().unwrap();
    assert_eq!(sum("redriven") + sum("skipped"), 300, "{done}");
    assert_eq!(sum("refused"), 0, "{done}");
    let mut each = BTreeMap::<_, usize>::new();
    let mut times = Vec::new();
    for (delivery, facts) in redriven_on_the_log(&system).await {
        assert_eq!(facts["generation"], 1, "{delivery}");
        times.push(moment(&facts["occurred_at"]));
        *each.entry(delivery).or_default() += 1;
    }
    assert_eq!(each.len(), 300);
    assert!(each.values().all(|count| *count == 1), "{each:?}");
    // The rate holds whoever is killed: the last of any 42 comes 1 s after the first, but for what is rounded away.
    times.sort();
    for many in times.windows(42) {
        let took = (many[41] - many[0]).as_seconds_f64();
        assert!(took > 0.95, "42 of them within {took} s");
    }
    all_got(&system, &expected).await;
    let left = || async { listed(&system, &[]).await.len() };
    until(left, |left| *left == 0).await;
}
