//! A process works on a redrive and is killed, and nobody starts it again: another one goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_domain::delivery::Event;
use chat4all_nats::Change;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::site::{EVEN, Extra, PATIENCE, by_number, kill, leases, reached, shares};
use crate::guarantees::system::{System, log_of, phone};
use crate::support::behind::level;
use crate::support::up::send;
use crate::whole_system::{Messages, total};

const PHONES: usize = 6;
const EACH: usize = 10;
const ALL: usize = PHONES * EACH;
/// So many are done when its worker is killed.
const SOME: u64 = 15;
/// What a killed or frozen worker had is somebody else's.
const TAKEN_OVER: Duration = Duration::from_secs(15);
/// The provider cannot reach the recipient: final, until somebody redrives.
const UNREACHABLE: u64 = 131_026;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redrive_whose_process_is_killed_for_good_goes_on_in_another_one() {
    let system = System::split().await;
    let (told, texts) = failed(&system).await;
    let look = async || leases(&system, "redrive").await;
    reached("all at one", EVEN, look, |leases| shares(leases) == [8]).await;
    let stays: BTreeSet<_> = look().await.into_values().collect();
    let extra = works_on_redrives(&system, &stays).await;

    let redrive = ["redrive", "--all", "--rate", "5/s", "--detach"];
    let handed = dlq(&system, &redrive).await;
    assert_eq!(handed["total"], json!(ALL), "{handed}");
    let id = handed["id"].as_str().unwrap();
    let job = async || dlq(&system, &["jobs", id]).await;
    reached("some are done", PATIENCE, job, |job| {
        job["done"].as_u64() >= Some(SOME)
    })
    .await;
    let at_work = look().await;
    assert!(!stays.contains(&at_work[&0]), "it is the extra one's");
    kill(extra.child.id()).await;
    let left = job().await;
    assert!(left["done"].as_u64() < Some(ALL as u64), "{left}");
    reached("taken over", TAKEN_OVER, look, |leases| {
        leases.get(&0).is_some_and(|worker| stays.contains(worker))
    })
    .await;
    reached("done", PATIENCE, job, |job| job["state"] == "done").await;

    // One that the killed worker had no time to note counts as skipped: it was redriven all the same.
    let done = job().await;
    let sum = |field: &str| done[field].as_u64().unwrap();
    assert_eq!(sum("redriven") + sum("skipped"), ALL as u64, "{done}");
    assert_eq!(sum("refused"), 0, "{done}");
    let redriven = deliveries(&system, |event| matches!(event, Event::Redriven { .. }));
    assert_eq!(redriven.await, told, "each once, and in their order");
    let got = async || {
        let mut got = by_number(&system.taken().await);
        // One that was under way at the kill may have come twice, one after the other.
        got.values_mut().for_each(Vec::dedup);
        got
    };
    reached("all got", PATIENCE, got, |got| *got == texts).await;
}

/// Another process that has partition 0, which is the one with work. Who was there first keeps the lowest partitions; so that
/// one stands still until it has none.
async fn works_on_redrives(system: &System, first: &BTreeSet<String>) -> Extra {
    let extra = Extra::start(system, "bridges").await;
    let look = async || leases(system, "redrive").await;
    let even = |leases: &BTreeMap<u8, String>| shares(leases) == [4, 4];
    reached("even with two", EVEN, look, even).await;
    let bridges = system.process("bridges").unwrap();
    send(bridges, Signal::STOP);
    reached("taken over from the frozen", TAKEN_OVER, look, |leases| {
        leases.len() == 8 && leases.values().all(|worker| !first.contains(worker))
    })
    .await;
    send(bridges, Signal::CONT);
    reached("even again", EVEN, look, even).await;
    extra
}

/// So many deliveries have failed, and the read models show it; the provider takes them from now on. Messages by conversation,
/// and texts by phone, in their order.
async fn failed(system: &System) -> (Messages, BTreeMap<String, Vec<String>>) {
    let (mut told, mut texts) = (Messages::new(), BTreeMap::<_, Vec<_>>::new());
    let mut groups = Vec::new();
    for phone in (0..PHONES).map(phone) {
        let fault = json!({"kind": "error", "code": UNREACHABLE});
        let rule = json!({"to": phone, "count": EACH, "fault": fault});
        system.fault(rule).await;
        let group = system.group("ana", std::slice::from_ref(&phone)).await;
        groups.push((phone, group));
    }
    for turn in 0..EACH {
        for (phone, group) in &groups {
            let text = turn.to_string();
            let accepted = system.say("ana", group, &text).await;
            let messages = told.entry(group.clone()).or_default();
            messages.push(accepted.text("message_id"));
            texts.entry(phone.clone()).or_default().push(text);
        }
    }
    let look = async || {
        let failed = deliveries(system, |event| matches!(event, Event::Failed { .. }));
        total(&failed.await)
    };
    reached("all have failed", PATIENCE, look, |failed| *failed == ALL).await;
    level(&system.env).await;
    (told, texts)
}

/// The messages whose deliveries have such an event, once for each of them, by conversation and in the log's order.
async fn deliveries(system: &System, is: fn(&Event) -> bool) -> Messages {
    let mut found = Messages::new();
    for logged in log_of(&system.env).await {
        let Change::Delivery(id, events) = logged.change else {
            continue;
        };
        let messages = events.iter().filter(|recorded| is(&recorded.event));
        let messages = messages.map(|_| id.message.to_string());
        let messages: Vec<_> = messages.collect();
        if !messages.is_empty() {
            let conversation = found.entry(id.conversation.to_string()).or_default();
            conversation.extend(messages);
        }
    }
    found
}

/// What `chat4all dlq … --json` prints when it succeeds.
async fn dlq(system: &System, arguments: &[&str]) -> Value {
    let mut command = system.chat4all(&[&["dlq"], arguments, &["--json"]].concat());
    command.env("USER", "olga").env_remove("SUDO_USER");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}
