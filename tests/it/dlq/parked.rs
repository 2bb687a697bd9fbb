//! What was put aside comes in again, once, and is gone then.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::scene::{broker, dlq, listed, ran};
use crate::guarantees::system::{System, phone};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_understood_now_comes_in_once_and_the_rest_stays() {
    let system = System::start().await;
    let customer = phone(7);
    // A message that a release before ours could not read; one that nobody can; a receipt of a message that nobody knows.
    let written = |id: &str, text: &str| json!({"from": customer, "id": id, "timestamp": "1764000000", "type": "text", "text": {"body": text}});
    let (first, second) = (written("wamid.a", "first"), written("wamid.b", "second"));
    let call = json!({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {
        "messaging_product": "whatsapp", "metadata": {"display_phone_number": "1", "phone_number_id": "100000000000001"},
        "contacts": [{"wa_id": customer, "profile": {"name": "Anna"}}], "messages": [second.clone()]}}]}]});
    let stranger = json!({"id": "wamid.nobody", "status": "delivered", "timestamp": "1764000000", "recipient_id": customer});
    for raw in [&first, &call, &json!({"from": "x"}), &stranger] {
        put_aside(&system, raw).await;
    }
    assert_eq!(listed(&system, &["--kind", "parked"]).await.len(), 4);

    let output = ran(&system, &["redrive", "--kind", "parked", "--json"]).await;
    assert_eq!(output.status.code(), Some(3), "some were refused");
    let text = String::from_utf8(output.stdout).unwrap();
    let done: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&done["redriven"], &done["refused"]),
        (&json!(2), &json!(2)),
        "{done}"
    );
    let why: Vec<_> = done["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["why"].as_str().unwrap())
        .collect();
    assert_eq!(why, ["a message that cannot be read", "unknown_message"]);
    assert!(!text.contains(&customer) && !text.contains("first"));
    assert_eq!(listed(&system, &["--kind", "parked"]).await.len(), 2);
    assert_eq!(came_in(&system).await, ["first", "second"]);

    // The same once more, as if a worker had died between taking it in and taking it away: nothing is doubled.
    put_aside(&system, &first).await;
    let newest = listed(&system, &["--kind", "parked"]).await;
    let done = dlq(&system, &["redrive", newest[0]["id"].as_str().unwrap()]).await;
    assert_eq!(done["redriven"], 1, "{done}");
    assert_eq!(came_in(&system).await, ["first", "second"]);
    assert_eq!(listed(&system, &["--kind", "parked"]).await.len(), 2);
}

async fn put_aside(system: &System, raw: &Value) {
    let mut headers = HeaderMap::new();
    headers.insert("reason", "of before");
    headers.insert("channel-account", "whatsapp-main");
    let subject = "chat.parked.whatsapp.item.whatsapp-main";
    let broker = broker(system).await;
    let put = broker.publish_with_headers(subject, headers, raw.to_string().into());
    put.await.unwrap().await.unwrap();
}

/// Texts that customers wrote, as the log has them.
async fn came_in(system: &System) -> Vec<String> {
    let arguments = ["log", "--type", "MessageAccepted", "--personal", "--json"];
    let mut command = system.chat4all(&arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let inbound = events.filter(|event| event["event"]["facts"]["origin"]["from"] == "channel");
    let said = |event: Value| {
        event["event"]["personal"]["content"]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    inbound.map(said).collect()
}
