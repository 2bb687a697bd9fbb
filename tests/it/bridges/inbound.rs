//! What comes in.

use std::time::Duration;

use chat4all_domain::conversation::Who;
use chat4all_domain::delivery::Status;
use chat4all_domain::message::{Content, Event, Origin};
use chat4all_domain::{Address, Conversation, ConversationId};
use chat4all_nats::{Change, Store};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::stage::{ACCOUNT, KIND, Stage, account_id, body, conversation, number, sign, until};

/// What the log says somebody wrote to us: conversation and text, in order per partition.
async fn came_in(stage: &Stage) -> Vec<(ConversationId, String)> {
    let mut found = Vec::new();
    for partition in stage.node.log.partitions().all() {
        let mut from = 1;
        loop {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            let batch = stage
                .node
                .log
                .read(partition, from, deadline)
                .await
                .unwrap();
            let Some(last) = batch.last() else {
                break;
            };
            from = last.sequence + 1;
            for stored in batch {
                let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
                let Ok(Change::Message(id, events)) = change else {
                    continue;
                };
                for recorded in events {
                    let Event::Accepted { facts, personal } = recorded.event;
                    if matches!(facts.origin, Origin::Channel { .. }) {
                        let text = match personal.content {
                            Content::Text { text } => text.reveal().to_owned(),
                            Content::Unsupported { what } => format!("[{what}]"),
                        };
                        found.push((id.conversation, text));
                    }
                }
            }
        }
    }
    found
}

fn text(id: &str, from: &str, said: &str) -> Value {
    json!({"from": from, "id": id, "timestamp": "1764000001", "type": "text", "text": {"body": said}})
}

fn direct(stage: &Stage, from: &str) -> ConversationId {
    let address = Address::parse(KIND, from).unwrap();
    stage
        .config
        .ids
        .direct_with_address(&account_id(), &address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_message_makes_identity_conversation_and_message_once() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let told = body(
        "messages",
        &json!([text("wamid.1", &number(1), "who are you?")]),
    );
    for _ in 0..5 {
        assert_eq!(stage.signed_webhook(&told).await, StatusCode::OK);
    }
    // What comes after it in the same stream has been dealt with: the repetitions too.
    let last = body("messages", &json!([text("wamid.2", &number(1), "hello?")]));
    assert_eq!(stage.signed_webhook(&last).await, StatusCode::OK);
    let expected = direct(&stage, &number(1));
    let seen = until(
        || came_in(&stage),
        |seen| seen.iter().any(|(_, text)| text == "hello?"),
    )
    .await;
    let both = ["who are you?", "hello?"].map(|text| (expected, text.to_owned()));
    assert_eq!(seen, both);

    let conversations = Store::<Conversation>::new(stage.log("look").await, TaskTracker::new());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let loaded = conversations
        .from_leader(&expected, deadline)
        .await
        .unwrap();
    let present: Vec<_> = loaded
        .state
        .present()
        .map(|(_, present)| present.clone())
        .collect();
    assert_eq!(present.len(), 1);
    assert!(matches!(&present[0].who, Who::Contact { account, .. } if account.as_str() == ACCOUNT));
    let identities = identities(&stage).await;
    assert_eq!(identities, ["IdentityRegistered Anna"]);
    bridges.stop().await;
}

async fn identities(stage: &Stage) -> Vec<String> {
    use chat4all_domain::identity::Event;
    let mut found = Vec::new();
    for partition in stage.node.log.partitions().all() {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        for stored in stage.node.log.read(partition, 1, deadline).await.unwrap() {
            let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
            if let Ok(Change::Identity(_, events)) = change {
                found.extend(events.into_iter().map(|recorded| match recorded.event {
                    Event::Registered { personal, .. } => {
                        let name = personal
                            .name
                            .map_or_else(String::new, |name| name.reveal().to_owned());
                        format!("IdentityRegistered {name}")
                    }
                    Event::Named { personal, .. } => {
                        format!("IdentityNamed {}", personal.name.reveal())
                    }
                }));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_answer_reaches_the_conversation_it_quotes() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    // Through the provider's own phone, signed by it.
    let path = format!("phones/{}/messages", number(3));
    stage
        .control("POST", &path, json!({"text": "good morning"}))
        .await;
    let first = until(|| came_in(&stage), |seen| seen.len() == 1).await;
    let home = direct(&stage, &number(3));
    assert_eq!(first, [(home, "good morning".to_owned())]);
    // A message in another conversation; who quotes it without being in it stays in the direct one.
    let posted = stage.post(conversation(), &[number(3)], "elsewhere").await;
    stage.reaches(&posted, 0, Status::Sent).await;
    let calls = stage.calls().await;
    let wamid = calls[0]["message_id"].as_str().unwrap();
    let mut answer = text("wamid.q", &number(3), "what?");
    answer["context"] = json!({"id": wamid, "from": "4930242922"});
    assert_eq!(
        stage
            .signed_webhook(&body("messages", &json!([answer])))
            .await,
        StatusCode::OK
    );
    let seen = until(|| came_in(&stage), |seen| seen.len() == 2).await;
    assert_eq!(seen[1], (home, "what?".to_owned()));
    // A message of the direct one is quoted like any other.
    let posted = stage.post(home, &[number(3)], "at home").await;
    stage.reaches(&posted, 0, Status::Sent).await;
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_senders_messages_keep_their_order_and_bad_items_stop_nothing() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    for i in 0..50 {
        let mut items = vec![text(&format!("wamid.{i}"), &number(1), &format!("{i}"))];
        if i % 10 == 0 {
            items.insert(0, json!({"id": i}));
            items.push(json!({"from": number(1), "id": format!("wamid.s{i}"), "timestamp": "1764000001", "type": "sticker"}));
        }
        assert_eq!(
            stage.signed_webhook(&body("messages", &items.into())).await,
            StatusCode::OK
        );
    }
    assert_eq!(stage.signed_webhook("not even JSON").await, StatusCode::OK);
    let seen = until(|| came_in(&stage), |seen| seen.len() == 55).await;
    let texts: Vec<_> = seen
        .iter()
        .map(|(_, text)| text.as_str())
        .filter(|text| *text != "[sticker]")
        .collect();
    let expected: Vec<_> = (0..50).map(|i| i.to_string()).collect();
    assert_eq!(texts, expected);
    let parked = until(|| stage.parked(), |parked| parked.len() == 6).await;
    let subject = format!("chat.parked.whatsapp.item.{ACCOUNT}");
    assert!(parked.iter().all(|(at, _)| *at == subject), "{parked:?}");
    let raw: Vec<_> = parked.iter().map(|(_, raw)| raw.as_str()).collect();
    assert_eq!(
        raw,
        [
            "{\"id\":0}",
            "{\"id\":10}",
            "{\"id\":20}",
            "{\"id\":30}",
            "{\"id\":40}",
            "not even JSON"
        ]
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_nothing_we_know_is_put_aside_under_its_reference() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let status = json!({"id": "wamid.unknown", "status": "read", "timestamp": "1764000001", "recipient_id": number(1)});
    assert_eq!(
        stage
            .signed_webhook(&body("statuses", &json!([status])))
            .await,
        StatusCode::OK
    );
    let parked = until(|| stage.parked(), |parked| !parked.is_empty()).await;
    let hash = chat4all_channel_bridges::reference::shortened("wamid.unknown");
    assert_eq!(
        parked[0].0,
        format!("chat.parked.whatsapp.receipt.{ACCOUNT}.{hash}")
    );
    assert_eq!(serde_json::from_str::<Value>(&parked[0].1).unwrap(), status);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_signed_calls_for_known_accounts_are_taken() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let told = body("messages", &json!([text("wamid.1", &number(1), "hello")]));
    assert_eq!(stage.webhook(&told, None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(
        stage.webhook(&told, Some(&sign("something else"))).await,
        StatusCode::UNAUTHORIZED
    );
    for path in ["whatsapp/nobody", "telegram/whatsapp-main"] {
        let url = format!("http://{}/webhooks/{path}", stage.listen);
        let request = stage
            .http
            .post(url)
            .header("X-Hub-Signature-256", sign(&told));
        let status = request.body(told.clone()).send().await.unwrap().status();
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let large = "x".repeat(4 * 1024 * 1024 + 1);
    assert_eq!(
        stage.signed_webhook(&large).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let mut stream = stage
        .node
        .log
        .jetstream()
        .get_stream("INBOUND")
        .await
        .unwrap();
    assert_eq!(
        stream.info().await.unwrap().state.messages,
        0,
        "nothing of that was stored"
    );
    // The largest that is taken is taken.
    assert_eq!(stage.signed_webhook(&large[1..]).await, StatusCode::OK);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_gives_the_challenge_back_to_who_knows_the_token() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    for (mode, token, expected) in [
        ("subscribe", "verify", (StatusCode::OK, "1158201444")),
        ("subscribe", "guess", (StatusCode::FORBIDDEN, "")),
        ("subscribe", "", (StatusCode::FORBIDDEN, "")),
        ("unsubscribe", "verify", (StatusCode::FORBIDDEN, "")),
    ] {
        let url = format!("http://{}/webhooks/whatsapp/{ACCOUNT}", stage.listen);
        let query = [
            ("hub.mode", mode),
            ("hub.verify_token", token),
            ("hub.challenge", "1158201444"),
        ];
        let answer = stage.http.get(url).query(&query).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, expected.0, "{mode} {token}");
        assert!(status != StatusCode::OK || text == expected.1, "{text}");
        assert!(
            status == StatusCode::OK || !text.contains("1158201444"),
            "{text}"
        );
    }
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_log_is_away_webhooks_are_refused_and_the_providers_repetition_gets_them_in() {
    let mut stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage.node.nats.kill().await;
    let told = body("messages", &json!([text("wamid.0", &number(2), "refused")]));
    assert_eq!(
        stage.signed_webhook(&told).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let path = format!("phones/{}/messages", number(1));
    stage
        .control("POST", &path, json!({"text": "is anybody there?"}))
        .await;
    let repeated = |stats: &Value| stats["webhooks"]["failed_calls"].as_u64() > Some(1);
    until(|| stage.control("GET", "stats", Value::Null), repeated).await;
    stage.node.nats.restart().await.unwrap();
    let seen = until(|| came_in(&stage), |seen| !seen.is_empty()).await;
    assert_eq!(
        seen,
        [(direct(&stage, &number(1)), "is anybody there?".to_owned())]
    );
    bridges.stop().await;
}
