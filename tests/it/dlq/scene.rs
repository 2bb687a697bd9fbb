//! A system with dead letters, and the operator's commands.

use std::collections::BTreeMap;
use std::process::Output;

use async_nats::jetstream;
use serde_json::{Value, json};

use crate::guarantees::system::{Call, System, until};

/// The provider cannot reach the recipient: final, until somebody redrives.
pub const UNREACHABLE: u64 = 131_026;
pub const USER: &str = "ana";
/// Who works with `dlq`.
pub const OPERATOR: &str = "olga";

pub async fn broker(system: &System) -> jetstream::Context {
    let client = async_nats::connect(&system.env["CHAT4ALL_NATS__URL"]).await;
    jetstream::new(client.unwrap())
}

/// Runs `chat4all dlq …`.
pub async fn ran(system: &System, arguments: &[&str]) -> Output {
    let mut command = system.chat4all(&[&["dlq"], arguments].concat());
    command.env("USER", OPERATOR).env_remove("SUDO_USER");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap()
}

/// The JSON that `chat4all dlq … --json` prints last, when it succeeds.
pub async fn dlq(system: &System, arguments: &[&str]) -> Value {
    lines(system, arguments).await.pop().unwrap()
}

/// Every line of JSON that it prints.
pub async fn lines(system: &System, arguments: &[&str]) -> Vec<Value> {
    let output = ran(system, &[arguments, &["--json"]].concat()).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// What `dlq …` says when it fails.
pub async fn refused(system: &System, arguments: &[&str]) -> String {
    let output = ran(system, arguments).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    said
}

/// The dead letters that `dlq ls` with these flags lists.
pub async fn listed(system: &System, flags: &[&str]) -> Vec<Value> {
    let limit = ["ls", "--limit", "10000"];
    let page = dlq(system, &[&limit, flags].concat()).await;
    assert_eq!(
        (&page["next"], &page["left_out"]),
        (&Value::Null, &json!([]))
    );
    page["dead_letters"].as_array().unwrap().clone()
}

pub fn ids(letters: &[Value]) -> Vec<String> {
    let ids = letters.iter().map(|letter| letter["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

/// One message each, in turns, to each phone in a group of its own, until all have failed; then the phones can be reached
/// again. The texts that each phone is to get, in their order.
pub async fn failed(
    system: &System,
    phones: &[String],
    each: usize,
) -> BTreeMap<String, Vec<String>> {
    let mut groups = Vec::new();
    for phone in phones {
        groups.push(system.group(USER, std::slice::from_ref(phone)).await);
    }
    let mut faults = Vec::new();
    for phone in phones {
        let rule = json!({"to": phone, "fault": {"kind": "error", "code": UNREACHABLE}});
        faults.push(system.fault(rule).await);
    }
    let mut texts = BTreeMap::<_, Vec<_>>::new();
    for turn in 0..each {
        for (phone, group) in phones.iter().zip(&groups) {
            let text = format!("{phone} no {turn}");
            system.say(USER, group, &text).await;
            texts.entry(phone.clone()).or_default().push(text);
        }
    }
    let all = phones.len() * each;
    let look = || async { listed(system, &["--kind", "failed-delivery"]).await.len() };
    until(look, |found| *found == all).await;
    for fault in faults {
        system.repair(fault).await;
    }
    texts
}

/// A job, waited for until `reached`.
pub async fn job(system: &System, id: &Value, reached: impl Fn(&Value) -> bool) -> Value {
    let id = id.as_str().unwrap();
    until(|| async { dlq(system, &["jobs", id]).await }, reached).await
}

pub fn is_done(job: &Value) -> bool {
    job["state"] == "done"
}

/// Every `DeliveryRedriven` on the log, by what it is about, in the order of each partition.
pub async fn redriven_on_the_log(system: &System) -> Vec<(String, Value)> {
    let arguments = ["log", "--type", "DeliveryRedriven", "--json"];
    let mut command = system.chat4all(&arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let subject = event["subject"].as_str().unwrap();
        let facts = event["event"]["facts"].clone();
        (format!("{subject} {}", facts["n"]), facts)
    };
    text.lines().map(read).collect()
}

/// The texts that each phone got, in their order. One that was under way at a kill may have come twice, one after the other.
pub async fn got(system: &System, phones: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut calls: Vec<Call> = system.taken().await;
    calls.sort_by_key(|call| call.seq);
    let mut texts = BTreeMap::<_, Vec<_>>::new();
    for call in calls.into_iter().filter(|call| phones.contains(&call.to)) {
        texts.entry(call.to).or_default().push(call.text);
    }
    texts.values_mut().for_each(Vec::dedup);
    texts
}

/// Waits until nothing is left to look at, and every phone has got all.
pub async fn all_got(system: &System, expected: &BTreeMap<String, Vec<String>>) {
    let phones: Vec<_> = expected.keys().cloned().collect();
    let count = |texts: &BTreeMap<String, Vec<String>>| texts.values().map(Vec::len).sum::<usize>();
    let found = until(
        || got(system, &phones),
        |found| count(found) >= count(expected),
    )
    .await;
    assert_eq!(found, *expected);
}
