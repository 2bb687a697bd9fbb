//! The broker is full, gone, or hangs.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::stack::{Api, Broker};
use super::{id, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_takes_nothing_new_but_still_what_became_of_the_old() {
    let broker = Broker::with(1, 1 << 20).await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let mut text = vec![0; 20_000];
    let mut last: Option<(serde_json::Value, String, serde_json::Value)> = None;
    // 5 % of the log are kept for outcomes; what fits before has random bytes, so that compression does not help.
    for n in 0..100 {
        text.fill_with(|| fastrand::alphanumeric() as u8);
        let body = message(&group, std::str::from_utf8(&text).unwrap());
        let answer = api
            .post("ana", "/v1/messages", &body)
            .key(&n.to_string())
            .send()
            .await;
        if answer.status == 507 {
            assert_eq!(answer.body["code"], "log_full");
            let (body, key, sent) = last.expect("something fits into an empty log");
            // The first answer again, a mark, and somebody who must go: all of that still fits.
            let again = api
                .post("ana", "/v1/messages", &body)
                .key(&key)
                .expect(202)
                .await;
            assert_eq!((again.replay, &again.body), (true, &sent));
            let read = json!({"up_to": id(&sent, "message_id")});
            api.post("ben", &format!("/v1/conversations/{group}/read"), &read)
                .expect(200)
                .await;
            let start =
                json!({"kind": "group", "participants": [{"user_id": super::user("carl")}]});
            api.post("ana", "/v1/conversations", &start)
                .expect(507)
                .await;
            let readiness = api.call(Method::GET, "/readyz").expect(503).await;
            let reason = readiness.body["checks"]["log"]["reason"].as_str();
            assert!(
                reason.is_some_and(|reason| reason.contains("nothing new is taken in")),
                "{}",
                readiness.body
            );
            return;
        }
        assert_eq!(answer.status, 202, "{}", answer.body);
        last = Some((body, n.to_string(), answer.body));
    }
    panic!("2 MB went into a log of 1 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_gone_nothing_is_stored_and_the_answer_says_so() {
    let mut broker = Broker::start().await;
    let api = Api::with_deadline(&broker, Duration::from_secs(1)).await;
    let group = api.group(&["ana", "ben"]).await;
    api.post("ana", "/v1/messages", &message(&group, "before"))
        .expect(202)
        .await;
    broker.nats.kill().await;
    let disconnected = Instant::now();
    while api.client.connection_state() == async_nats::connection::State::Connected {
        assert!(
            disconnected.elapsed() < Duration::from_secs(10),
            "the client does not notice"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begin = Instant::now();
    let refused = api
        .post("ana", "/v1/messages", &message(&group, "meanwhile"))
        .key("k")
        .expect(503)
        .await;
    assert_eq!(refused.body["code"], "unavailable", "{}", refused.body);
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "{:?}",
        begin.elapsed()
    );
    let behind = api.post(
        "ana",
        "/v1/messages?at_least=00-999",
        &message(&group, "meanwhile"),
    );
    let behind = behind.expect(503).await;
    assert_eq!(behind.body["code"], "not_yet_projected");
    assert!(
        behind.body["position"].as_str().unwrap().starts_with("00-"),
        "{}",
        behind.body
    );
    broker.nats.restart().await.unwrap();
    assert_eq!(broker.events("MessageAccepted").await.len(), 1);
    // And it goes on by itself.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = api
            .post("ana", "/v1/messages", &message(&group, "meanwhile"))
            .key("k")
            .send()
            .await;
        // Perhaps as a replay: the try before may have been stored without our hearing of it.
        if answer.status == 202 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.body);
    }
    assert_eq!(broker.events("MessageAccepted").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_leaves_the_outcome_open_and_repeating_settles_it() {
    let broker = Broker::start().await;
    let api = Api::with_deadline(&broker, Duration::from_secs(3)).await;
    let group = api.group(&["ana", "ben"]).await;
    api.post("ana", "/v1/messages", &message(&group, "before"))
        .expect(202)
        .await;
    broker.nats.suspend().await;
    let begin = Instant::now();
    let mut named = message(&group, "nameless");
    let body = message(&group, "meanwhile");
    let (open, nameless) = tokio::join!(
        api.post("ana", "/v1/messages", &body).key("k").expect(503),
        api.post("ana", "/v1/messages", &named).expect(503),
    );
    assert!(
        begin.elapsed() < Duration::from_secs(6),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(open.body["code"], "unknown_outcome", "{}", open.body);
    // Without a key the answer names the id that makes repeating safe.
    assert_eq!(
        nameless.body["code"], "unknown_outcome",
        "{}",
        nameless.body
    );
    named["message_id"] = nameless.body["message_id"].clone();
    broker.nats.resume();
    let deadline = Instant::now() + Duration::from_secs(20);
    let settled = loop {
        let answer = api
            .post("ana", "/v1/messages", &message(&group, "meanwhile"))
            .key("k")
            .send()
            .await;
        if answer.status == 202 {
            break answer;
        }
        assert!(Instant::now() < deadline, "{}", answer.body);
    };
    let again = api
        .post("ana", "/v1/messages", &message(&group, "meanwhile"))
        .key("k")
        .expect(202)
        .await;
    assert_eq!(again.body, settled.body);
    let named = api.post("ana", "/v1/messages", &named).expect(202).await;
    assert_eq!(named.body["message_id"], nameless.body["message_id"]);
    assert_eq!(broker.events("MessageAccepted").await.len(), 3);
}
