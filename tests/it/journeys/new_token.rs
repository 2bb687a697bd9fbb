//! A provider takes a token back: the account is held and nothing fails; bridges that are started again with a new one in the
//! configuration send what waited. As docs/operations.md says it, "A channel is held".

use std::path::Path;

use chat4all_cli::embedded::temp_dir;
use reqwest::Method;
use serde_json::{Value, json};

use super::system::{System, by, text};
use super::{Messages, compare, until};
use crate::support::up::Up;

/// An account beside that of `up`, whose token `up` would say again.
const ACCOUNT: &str = "whatsapp-two";
/// The account's number at the provider.
const NUMBER: &str = "200000000000001";
const SECRET: &str = "a secret of the second account";
const OLD: &str = "the token that was";
const NEW: &str = "the token that is";
const LANES: usize = 8;
const TEXTS: [&str; 3] = ["first", "second", "third"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bridges_that_are_started_with_a_new_token_send_what_waited_in_order() {
    let place = temp_dir().unwrap();
    let (file, simulator) = (place.path().join("chat4all.toml"), Up::simulator());
    configure(&file, &simulator, OLD);
    let system = System::with(|command| {
        command.arg("--split").env("CHAT4ALL_CONFIG", &file);
    });
    assert_eq!(system.env["CHAT4ALL_SIMULATOR_URL"], simulator);
    introduce(&system).await;
    let ana = system.full("ana");
    let mut groups = Vec::new();
    for number in 0..LANES {
        let phone = format!("491516{number:07}");
        let contact = json!({"channel": ACCOUNT, "address": phone});
        let body = json!({"kind": "group", "participants": [contact]});
        let started = system.posted(&ana, "/v1/conversations", &body, 201);
        let started = started.await;
        let group = started["conversation_id"].as_str().unwrap().to_owned();
        groups.push((phone, group));
    }
    let mut told = Messages::new();
    say(&system, &ana, &groups, "before", &mut told).await;
    all_read(&system, &ana, &groups, 1).await;

    // From now on the provider refuses the one that we have.
    let other = json!({"token": NEW});
    system.control(Method::PATCH, &path(), other).await;
    for words in TEXTS {
        say(&system, &ana, &groups, words, &mut told).await;
    }
    let row = until(
        "all of it waits",
        async || account(&system, &file).await,
        |row| row["state"] == "held" && row["waiting"] == LANES * TEXTS.len(),
    )
    .await;
    assert_eq!(row["held"]["reason"], "INACTIVE_CREDENTIAL", "{row}");
    assert_eq!(row["held"]["code"], "190", "{row}");
    assert_eq!(system.handed_over().await.len(), LANES);

    // What its operator does.
    configure(&file, &simulator, NEW);
    system.restarted("bridges").await;
    let resume = ["channels", "resume", ACCOUNT, "--reason", "new token"];
    let by_whom = ["--by", "anna", "--json"];
    let resume = [&resume[..], &by_whom].concat();
    system.typed(&file, &resume).await;
    all_read(&system, &ana, &groups, 1 + TEXTS.len()).await;
    until(
        "nothing waits any more",
        async || account(&system, &file).await,
        |row| row["state"] == "active" && row["waiting"] == 0,
    )
    .await;
    let handed = by(
        &system.handed_over().await,
        |call| call["to"].as_str().map(str::to_owned),
        |call| call["body"]["text"]["body"].as_str().unwrap().to_owned(),
    );
    compare("the provider", &told, &handed);
    for stored in system.log().await {
        let mut events = stored.body["events"].as_array().unwrap().iter();
        let failed = events.any(|event| event["type"] == "DeliveryFailed");
        assert!(!failed, "{stored:?}");
    }
}

/// The account as our operator has it.
fn configure(file: &Path, simulator: &str, token: &str) {
    let section = format!(
        r#"[channels.{ACCOUNT}]
kind = "whatsapp"
phone_number_id = "{NUMBER}"
token = "{token}"
app_secret = "{SECRET}"
verify_token = "{SECRET}"
api_base = "{simulator}/v25.0"
"#
    );
    std::fs::write(file, section).unwrap();
}

/// The account as the provider has it, before.
async fn introduce(system: &System) {
    let bridges = system.role("bridges").unwrap().url;
    let account = json!({
        "display_phone_number": "+49 30 234567", "waba_id": "200000000000002",
        "token": OLD, "app_secret": SECRET, "verify_token": SECRET,
        "webhook_url": format!("{bridges}/webhooks/whatsapp/{ACCOUNT}"),
    });
    system.control(Method::PUT, &path(), account).await;
}

fn path() -> String {
    format!("accounts/{NUMBER}")
}

/// What `chat4all channels ls` says of it.
async fn account(system: &System, file: &Path) -> Value {
    let rows = system.typed(file, &["channels", "ls", "--json"]).await;
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row["account"] == ACCOUNT).unwrap().clone()
}

/// Says it to each phone in its group.
async fn say(
    system: &System,
    token: &str,
    groups: &[(String, String)],
    words: &str,
    told: &mut Messages,
) {
    for (phone, group) in groups {
        let body = text(group, words);
        system.posted(token, "/v1/messages", &body, 202).await;
        let messages = told.entry(phone.clone()).or_default();
        messages.push(words.to_owned());
    }
}

/// Waits until `each` message of each group was read.
async fn all_read(system: &System, token: &str, groups: &[(String, String)], each: usize) {
    let read = async || {
        let mut read = 0;
        for (_, group) in groups {
            let messages = system.messages(token, group).await;
            let of_group = messages.iter().filter(|one| one["status"] == "READ");
            read += of_group.count();
        }
        read
    };
    let all = groups.len() * each;
    until("everything is read", read, |read| *read == all).await;
}
