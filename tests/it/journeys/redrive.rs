//! Redrive: the provider refuses, an operator finds the dead letters, repairs, and tries them again; each recipient has
//! everything once, and history says who asked for it.

use chat4all_service::auth::Scope;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::system::{Answer, System, text};
use super::until;
use crate::support::up::send;

const PHONES: [&str; 3] = ["4915150000001", "4915150000002", "4915150000003"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_provider_refused_is_found_redriven_and_read_once() {
    let system = System::split();
    let ana = system.full("ana");
    let operator = system.token("op", &[Scope::DeadLettersRead, Scope::DeliveriesRedrive]);
    let group = system.group(&ana, &PHONES).await;
    // The second and the third cannot be reached.
    for phone in &PHONES[1..] {
        let fault = json!({"to": phone, "fault": {"kind": "error", "code": 131_026}});
        system.control(Method::POST, "faults", fault).await;
    }
    let refused = say(&system, &ana, &group, "refused").await;
    let stands = statuses(
        &system,
        &ana,
        &group,
        &refused,
        ["READ", "FAILED", "FAILED"],
    );
    let stands = stands.await;
    assert_eq!(
        stands["status"], "READ",
        "the least of those that have not failed"
    );
    // The message numbers its deliveries in an order of its own.
    let failed = PHONES[1..].iter().map(|phone| {
        let delivery = delivery_to(&stands, phone);
        assert_eq!(delivery["failure_reason"], "RECIPIENT_NOT_REACHABLE");
        delivery["number"].as_u64().unwrap()
    });
    let failed: Vec<u64> = failed.collect();
    let mut both = failed.clone();
    both.sort_unstable();
    let expected: Vec<_> = both.iter().map(|n| (refused.clone(), *n)).collect();
    assert_eq!(letters(&system, &operator).await, expected);

    // Tried again too early it fails again, and is a dead letter again.
    let path = format!("/v1/conversations/{group}/messages/{refused}/redrive");
    let only = json!({"deliveries": [failed[0]]});
    let redriven = system.posted(&operator, &path, &only, 202).await;
    assert_eq!(redriven["deliveries"], json!([failed[0]]));
    until(
        "the second failure",
        async || {
            let answer = shown(&system, &ana, &group, &refused).await;
            delivery_to(&answer.body, PHONES[1])
        },
        |second| second["generation"] == 1 && second["status"] == "FAILED",
    )
    .await;
    assert_eq!(letters(&system, &operator).await, expected);

    // Repaired. What is written now leaves at once; the redriven one comes after it, and a killed bridge changes nothing.
    system.control(Method::DELETE, "faults", Value::Null).await;
    let later = say(&system, &ana, &group, "later").await;
    self::statuses(&system, &ana, &group, &later, ["READ"; 3]).await;
    let everything = system.posted(&operator, &path, &json!({}), 202).await;
    assert_eq!(everything["deliveries"], json!(both));
    send(system.up.process("bridges").unwrap(), Signal::KILL);
    let read = self::statuses(&system, &ana, &group, &refused, ["READ"; 3]).await;
    assert_eq!(read["status"], "READ");
    assert_eq!(letters(&system, &operator).await, []);
    let nothing = system.post(&operator, &path, &json!({})).await;
    assert_eq!(
        (nothing.status.as_u16(), &nothing.body["code"]),
        (409, &json!("conflict"))
    );

    let user = chat4all_domain::UserId::derive("chat4all", "op").to_string();
    let by: Vec<_> = read["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "DeliveryRedriven")
        .map(|event| {
            (
                event["number"].as_u64().unwrap(),
                event["by_user_id"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [failed[0], both[0], both[1]].map(|number| (number, &*user));
    assert_eq!(by, expected);
    for (phone, expected) in PHONES.into_iter().zip([
        ["refused", "later"],
        ["later", "refused"],
        ["later", "refused"],
    ]) {
        let messages = system.phone(phone).await;
        // One whose call was out when the bridge was killed may have come twice; no other.
        let mut texts: Vec<_> = messages
            .iter()
            .map(|message| message["text"].as_str().unwrap())
            .collect();
        texts.dedup();
        assert_eq!(texts, expected, "{phone}");
    }
}

async fn say(system: &System, token: &str, group: &str, what: &str) -> String {
    let said = system
        .posted(token, "/v1/messages", &text(group, what), 202)
        .await;
    said["message_id"].as_str().unwrap().to_owned()
}

async fn shown(system: &System, token: &str, group: &str, message: &str) -> Answer {
    system
        .rest(
            token,
            &format!("/v1/conversations/{group}/messages/{message}"),
        )
        .await
}

/// The delivery to this number, as a message shows it.
fn delivery_to(message: &Value, phone: &str) -> Value {
    let deliveries = message["deliveries"].as_array();
    let found = deliveries.and_then(|all| all.iter().find(|one| one["address"] == phone));
    found.cloned().unwrap_or_default()
}

/// Waits until the deliveries to the phones stand there; the message as it is shown then.
async fn statuses(
    system: &System,
    token: &str,
    group: &str,
    message: &str,
    wanted: [&str; 3],
) -> Value {
    until(
        "the deliveries",
        async || shown(system, token, group, message).await.body,
        |shown| {
            let mut both = PHONES.iter().zip(wanted);
            both.all(|(phone, status)| delivery_to(shown, phone)["status"] == status)
        },
    )
    .await
}

/// The failed deliveries that an operator is shown, by number.
async fn letters(system: &System, token: &str) -> Vec<(String, u64)> {
    let query = "{ deadLetters(kinds: [FAILED_DELIVERY]) { nodes { ... on FailedDelivery { messageId number } } } }";
    let data = system.data(token, query, Value::Null).await;
    let nodes = data["deadLetters"]["nodes"].as_array().unwrap();
    let letter = |node: &Value| {
        (
            node["messageId"].as_str().unwrap().to_owned(),
            node["number"].as_u64().unwrap(),
        )
    };
    let mut letters: Vec<_> = nodes.iter().map(letter).collect();
    letters.sort();
    letters
}
