//! A provider that fails without holding its account: who waits for it is told.

use std::process::Stdio;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::said::{Said, Variables, chat4all};

const NUMBER: &str = "4915112345699";
const REQUEST: Duration = Duration::from_secs(20);
/// The provider wants ten seconds each time: long enough to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn who_waits_for_another_try_is_told(
    variables: &Variables,
    ask: &impl Fn(&Variables) -> Said,
) {
    let http = Client::builder()
        .no_proxy()
        .timeout(REQUEST)
        .build()
        .unwrap();
    let faults = format!("{}/_sim/faults", variables["CHAT4ALL_SIMULATOR_URL"]);
    let fault =
        json!({"to": NUMBER, "fault": {"kind": "http_status", "status": 502, "retry_after_s": 10}});
    let added = http.post(&faults).json(&fault).send().await.unwrap();
    let added = added.error_for_status().unwrap();
    let id = added.json::<Value>().await.unwrap()["id"].clone();

    let arguments = [
        "send",
        "--to",
        &format!("whatsapp:+{NUMBER}"),
        "--watch=120",
        "hello",
    ];
    let mut send = chat4all(variables);
    let watch = send.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let said = loop {
        let said = ask(variables);
        if said.answer.to_string().contains("waits for another try") {
            break said;
        }
        assert!(Instant::now() < deadline, "{:#}", said.answer);
        sleep(Duration::from_millis(100)).await;
    };
    said.has(
        "notice",
        "channels",
        "account `whatsapp-main`: 1 recipient waits for another try (TRANSIENT) at 2",
        "chat4all log --follow --type DeliveryDeferred",
    );
    said.is_well();
    let deleted = http.delete(format!("{faults}/{id}")).send().await.unwrap();
    assert!(deleted.status().is_success());

    // Who sent it was told why it waits, and that it arrived.
    let watched = tokio::task::block_in_place(|| watch.wait_with_output().unwrap());
    let output = String::from_utf8(watched.stdout).unwrap();
    assert!(
        output.contains(": CHANNEL_FAILURE, tried again at 2"),
        "{output}"
    );
    assert!(
        output.lines().last().unwrap().starts_with("READ "),
        "{output}"
    );
    loop {
        let said = ask(variables);
        if !said.answer.to_string().contains("another try") {
            break;
        }
        assert!(Instant::now() < deadline + PATIENCE, "{:#}", said.answer);
        sleep(Duration::from_millis(100)).await;
    }
}
