//! The bodies of refused calls, each pinned. `UPDATE=1` writes the file anew, for a look at the difference.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{CUSTOMER, PHONE, Stage, text_body};

/// A call that is not in order, by name.
fn bodies() -> Vec<(&'static str, Value)> {
    let good = || text_body(CUSTOMER, "hello");
    let with = |key: &str, value: Value| {
        let mut body = good();
        body[key] = value;
        body
    };
    let without = |key: &str| {
        let mut body = good();
        body.as_object_mut().unwrap().remove(key);
        body
    };
    let mark = |fields: Value| {
        let mut body = json!({"messaging_product": "whatsapp", "status": "read"});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body
    };
    vec![
        ("messaging_product is missing", without("messaging_product")),
        (
            "messaging_product is another",
            with("messaging_product", json!("sms")),
        ),
        ("to is missing", without("to")),
        ("to is a number", with("to", json!(4915112345678_u64))),
        ("to has letters", with("to", json!("call me"))),
        ("to is too short", with("to", json!("123"))),
        ("to is the sender", with("to", json!("+49 30 242922"))),
        ("type is unknown", with("type", json!("telegram"))),
        ("type is not played", with("type", json!("sticker"))),
        (
            "recipient_type is another",
            with("recipient_type", json!("group")),
        ),
        ("text is missing", without("text")),
        ("text is a string", with("text", json!("hello"))),
        (
            "text has no body",
            with("text", json!({"preview_url": true})),
        ),
        ("text is empty", with("text", json!({"body": ""}))),
        (
            "text is too long",
            with("text", json!({"body": "ü".repeat(4097)})),
        ),
        (
            "text has an unknown key",
            with("text", json!({"body": "x", "colour": "red"})),
        ),
        (
            "preview_url is a string",
            with("text", json!({"body": "x", "preview_url": "no"})),
        ),
        ("an unknown key", with("priority", json!(1))),
        ("context without an id", with("context", json!({}))),
        ("mark without an id", mark(json!({}))),
        ("mark of something else", mark(json!({"message_id": "42"}))),
        (
            "typing in another way",
            mark(json!({"message_id": "wamid.x", "typing_indicator": {"type": "voice"}})),
        ),
        ("not an object", json!([1])),
    ]
}

#[tokio::test]
async fn every_error_body_is_the_providers() {
    let stage = Stage::start().await;
    let token = format!("token-{PHONE}");
    let mut seen = BTreeMap::new();
    for (name, body) in bodies() {
        seen.insert(
            name.to_owned(),
            pinned(stage.post(PHONE, &token, &body).await.unwrap()).await,
        );
    }
    let hello = text_body(CUSTOMER, "hello");
    let bad_token = stage.post(PHONE, "stolen", &hello).await.unwrap();
    seen.insert("the token is nobody's".to_owned(), pinned(bad_token).await);
    let unknown = stage.post("42", &token, &hello).await.unwrap();
    seen.insert(
        "the phone number id is unknown".to_owned(),
        pinned(unknown).await,
    );
    let url = stage.sim.url();
    let no_token = stage
        .http
        .post(format!("{url}/v25.0/{PHONE}/messages"))
        .json(&hello)
        .send()
        .await
        .unwrap();
    seen.insert("there is no token".to_owned(), pinned(no_token).await);
    let no_path = stage
        .http
        .get(format!("{url}/v25.0/{PHONE}/calls"))
        .send()
        .await
        .unwrap();
    seen.insert("the path is unknown".to_owned(), pinned(no_path).await);
    compare("errors.json", &seen);
    let stats = stage.get("stats").await;
    assert_eq!(
        (&stats["calls"]["accepted"], &stats["calls"]["refused"]),
        (&json!(0), &json!(seen.len() - 1))
    );
    stage.stop().await;
}

#[tokio::test]
async fn every_documented_code_has_its_body() {
    let stage = Stage::start().await;
    let codes = [
        0, 1, 2, 3, 4, 10, 33, 100, 190, 200, 368, 80007, 130429, 130472, 131000, 131005, 131008,
        131009, 131016, 131021, 131026, 131030, 131031, 131042, 131043, 131045, 131047, 131048,
        131049, 131050, 131051, 131052, 131053, 131056, 131057, 131063, 132000, 132001, 132005,
        132007, 132012, 132015, 132016, 132068, 132069, 133004, 133010, 133016, 135000,
    ];
    let mut seen = BTreeMap::new();
    for code in codes {
        stage
            .fault(json!({"count": 1, "fault": {"kind": "error", "code": code}}))
            .await;
        seen.insert(
            code.to_string(),
            pinned(stage.try_send(CUSTOMER, "hello").await.unwrap()).await,
        );
    }
    compare("codes.json", &seen);
    stage.stop().await;
}

/// Status and body, without what differs each time.
async fn pinned(answer: reqwest::Response) -> Value {
    let status = answer.status().as_u16();
    assert_eq!(
        answer.headers()["content-type"],
        "application/json; charset=UTF-8"
    );
    let mut body: Value = answer.json().await.unwrap();
    let trace = body["error"]["fbtrace_id"].take();
    assert_eq!(trace.as_str().unwrap().len(), 23);
    json!({"status": status, "body": body})
}

#[track_caller]
fn compare(file: &str, seen: &BTreeMap<String, Value>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/testdata")
        .join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(seen).unwrap() + "\n").unwrap();
    }
    let pinned: BTreeMap<String, Value> =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (name, value) in seen {
        assert_eq!(Some(value), pinned.get(name), "{name}");
    }
    assert_eq!(seen.len(), pinned.len());
}
