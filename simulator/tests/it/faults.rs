//! Each knob, over the wire.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use chat4all_simulator::Millis;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{CUSTOMER, PHONE, Stage, text_body, until};

const OTHER_CUSTOMER: &str = "4915187654321";

async fn code(answer: reqwest::Response) -> u64 {
    answer.json::<Value>().await.unwrap()["error"]["code"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn a_fault_holds_for_its_number_and_its_count() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"to": format!("+{CUSTOMER}"), "count": 2, "fault": {
            "kind": "error", "code": 131056, "status": 429, "details": "slowly", "retry_after_s": 4,
        }}))
        .await;
    stage.send(OTHER_CUSTOMER, "not concerned").await;
    for _ in 0..2 {
        let answer = stage.try_send(CUSTOMER, "hello").await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (429, &"4".parse().unwrap())
        );
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["error_data"]["details"], "slowly");
    }
    stage.send(CUSTOMER, "hello").await;
    let calls = stage.get(&format!("calls?to={CUSTOMER}")).await;
    assert_eq!(calls["items"][0]["faults"], json!(["error"]));
    assert_eq!(calls["items"][0]["code"], 131056);
    stage.stop().await;
}

#[tokio::test]
async fn latency_delays_the_answer_and_the_receipts() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"count": 1, "fault": {"kind": "latency", "ms": [150, 200]}}))
        .await;
    let start = Instant::now();
    let wamid = stage.send(CUSTOMER, "hello").await;
    assert!(start.elapsed() >= Duration::from_millis(150));
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_bare_status_comes_without_a_graph_body() {
    let stage = Stage::start().await;
    stage.fault(json!({"count": 1, "fault": {"kind": "http_status", "status": 429, "retry_after_s": 7}})).await;
    let answer = stage.try_send(CUSTOMER, "hello").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    stage
        .fault(json!({"fault": {"kind": "http_status", "status": 503, "body": "<h1>busy</h1>"}}))
        .await;
    let answer = stage.try_send(CUSTOMER, "hello").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap()),
        (503, "<h1>busy</h1>".to_owned())
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_closed_connection_gives_no_answer_and_may_have_accepted() {
    let stage = Stage::start().await;
    for (reset, accepted) in [(true, false), (false, false), (true, true)] {
        stage.fault(json!({"count": 1, "fault": {"kind": "close", "reset": reset, "accepted": accepted}})).await;
        let error = stage.try_send(CUSTOMER, "hello").await.unwrap_err();
        assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
    }
    let stats = stage.quiet().await;
    assert_eq!(
        (&stats["calls"]["unanswered"], &stats["calls"]["accepted"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(stage.receiver.all().len(), 3);
    stage.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_a_reset_or_orderly_and_without_a_byte() {
    let stage = Stage::start().await;
    let body = text_body(CUSTOMER, "hello").to_string();
    let request = format!(
        "POST /v25.0/{PHONE}/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer token-{PHONE}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for (reset, ends) in [(true, Err(ErrorKind::ConnectionReset)), (false, Ok(0))] {
        stage
            .fault(json!({"count": 1, "fault": {"kind": "close", "reset": reset}}))
            .await;
        let mut stream = tokio::net::TcpStream::connect(stage.sim.addr)
            .await
            .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let end = stream
            .read(&mut [0; 100])
            .await
            .map_err(|error| error.kind());
        assert_eq!(end, ends, "reset: {reset}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_timeout_after_acceptance_still_brings_receipts() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"count": 1, "fault": {"kind": "hang"}}))
        .await;
    let send = stage.try_send(CUSTOMER, "hello");
    assert!(
        tokio::time::timeout(Duration::from_millis(300), send)
            .await
            .is_err()
    );
    let calls = stage.get("calls").await;
    let call = &calls["items"][0];
    assert_eq!(
        (&call["accepted"], &call["status"]),
        (&json!(true), &Value::Null)
    );
    stage
        .told(
            call["message_id"].as_str().unwrap(),
            &["sent", "delivered", "read"],
        )
        .await;
    stage.stop().await;
}

#[tokio::test]
async fn a_good_status_may_come_with_a_bad_body() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"count": 1, "fault": {"kind": "malformed_answer"}}))
        .await;
    let answer = stage.try_send(CUSTOMER, "one").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.json::<Value>().await.is_err());
    stage
        .fault(json!({"count": 1, "fault": {"kind": "missing_id", "accepted": false}}))
        .await;
    let body: Value = stage
        .try_send(CUSTOMER, "two")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        body,
        json!({"messaging_product": "whatsapp", "contacts": [{"input": CUSTOMER, "wa_id": CUSTOMER}]})
    );
    let stats = stage.get("stats").await;
    assert_eq!(stats["calls"]["accepted"], 1);
    stage.stop().await;
}

#[tokio::test]
async fn receipts_come_twice_out_of_order_or_not_at_all() {
    let stage = Stage::with(|config| config.settings.batch_max = 1).await;
    stage
        .fault(json!({"to": "4915100000001", "fault": {"kind": "duplicate_receipts", "copies": 2}}))
        .await;
    stage
        .fault(json!({"to": "4915100000002", "fault": {"kind": "shuffled_receipts"}}))
        .await;
    stage.fault(json!({"to": "4915100000003", "fault": {"kind": "missing_receipts", "steps": ["sent", "read"]}})).await;
    let doubled = stage.send("4915100000001", "doubled").await;
    let missing = stage.send("4915100000003", "missing").await;
    let mut shuffled = Vec::new();
    for _ in 0..10 {
        shuffled.push(stage.send("4915100000002", "shuffled").await);
    }
    let stats = stage.quiet().await;
    let mut steps = stage.receiver.steps(&doubled);
    steps.sort();
    assert_eq!(
        steps.join(" "),
        "delivered delivered delivered read read read sent sent sent"
    );
    assert_eq!(stage.receiver.steps(&missing), ["delivered"]);
    assert_eq!(stats["webhooks"]["unreported"], 2);
    // The phone has gone on although nobody was told.
    let phone = stage.get("phones/4915100000003").await;
    assert_eq!(phone["messages"][0]["status"], "read");
    let out_of_order = |id: &&String| {
        let steps = stage.receiver.steps(id);
        assert_eq!(steps.len(), 3);
        steps != ["sent", "delivered", "read"]
    };
    let disordered = shuffled.iter().filter(out_of_order).count();
    assert!(disordered >= 5, "{disordered} of 10 out of order");
    stage.stop().await;
}

#[tokio::test]
async fn an_early_receipt_comes_before_the_answer() {
    // The last step is not early: long after the answer, also on a busy machine.
    let stage = Stage::with(|config| config.settings.read_ms = Millis::between(2_000, 2_000)).await;
    stage
        .fault(json!({"fault": {"kind": "early_receipts", "steps": ["sent", "delivered"]}}))
        .await;
    stage
        .fault(json!({"fault": {"kind": "latency", "ms": 50}}))
        .await;
    let wamid = stage.send(CUSTOMER, "hello").await;
    let before_the_answer = stage.receiver.steps(&wamid);
    assert_eq!(before_the_answer, ["sent", "delivered"]);
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    stage.stop().await;
}

#[tokio::test]
async fn an_accepted_message_may_fail_later() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"fault": {"kind": "failed_receipt", "code": 131026, "after": "sent"}}))
        .await;
    let wamid = stage.send(CUSTOMER, "hello").await;
    stage.told(&wamid, &["sent", "failed"]).await;
    let failed = stage
        .receiver
        .all()
        .into_iter()
        .find(|received| received.item["status"] == "failed")
        .unwrap();
    assert_eq!(failed.item["errors"][0]["code"], 131026);
    assert_eq!(failed.item["errors"][0]["title"], "Message undeliverable");
    assert!(failed.item.get("conversation").is_none() && failed.item.get("pricing").is_none());
    stage.stop().await;
}

#[tokio::test]
async fn a_message_is_read_when_it_is_shown() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"fault": {"kind": "read_when_shown"}}))
        .await;
    let wamid = stage.send(CUSTOMER, "hello").await;
    stage.told(&wamid, &["sent", "delivered"]).await;
    stage.quiet().await;
    assert_eq!(stage.receiver.steps(&wamid), ["sent", "delivered"]);
    let shown = format!("phones/{CUSTOMER}/shown");
    assert_eq!(stage.control("POST", &shown, Value::Null).await["read"], 1);
    assert_eq!(stage.control("POST", &shown, Value::Null).await["read"], 0);
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    stage.stop().await;
}

#[tokio::test]
async fn an_outage_refuses_or_hangs_and_the_control_api_stays() {
    let stage = Stage::start().await;
    let refused = stage
        .fault(json!({"fault": {"kind": "outage", "mode": "refused"}}))
        .await;
    let error = stage.try_send(CUSTOMER, "hello").await.unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
    stage
        .control("DELETE", &format!("faults/{}", refused["id"]), Value::Null)
        .await;
    stage
        .fault(json!({"to": CUSTOMER, "fault": {"kind": "outage", "mode": "hung"}}))
        .await;
    let hung = stage.try_send(CUSTOMER, "hello");
    assert!(
        tokio::time::timeout(Duration::from_millis(200), hung)
            .await
            .is_err()
    );
    stage.send(OTHER_CUSTOMER, "not concerned").await;
    stage.control("DELETE", "faults", Value::Null).await;
    stage.send(CUSTOMER, "back again").await;
    let stats = stage.get("stats").await;
    assert_eq!(
        (&stats["calls"]["accepted"], &stats["calls"]["unanswered"]),
        (&json!(2), &json!(2))
    );
    stage.stop().await;
}

#[tokio::test]
async fn outside_the_window_nothing_goes_until_the_customer_writes() {
    let stage = Stage::start().await;
    stage.fault(json!({"fault": {"kind": "window"}})).await;
    assert_eq!(
        code(stage.try_send(CUSTOMER, "hello").await.unwrap()).await,
        131047
    );
    let path = format!("phones/{CUSTOMER}/messages");
    stage
        .control(
            "POST",
            &path,
            json!({"text": "hi", "phone_number_id": PHONE}),
        )
        .await;
    stage.send(CUSTOMER, "hello").await;
    assert_eq!(
        code(stage.try_send(OTHER_CUSTOMER, "hello").await.unwrap()).await,
        131047
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_pair_that_bursts_is_slowed_down_and_nobody_else() {
    let stage = Stage::start().await;
    stage.fault(json!({"fault": {"kind": "pair_limit"}})).await;
    for n in 0..45 {
        stage.send(CUSTOMER, &format!("hello {n}")).await;
    }
    assert_eq!(
        code(stage.try_send(CUSTOMER, "one too many").await.unwrap()).await,
        131056
    );
    stage.send(OTHER_CUSTOMER, "not concerned").await;
    stage.stop().await;
}

#[tokio::test]
async fn a_business_number_has_its_throughput() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"fault": {"kind": "throughput", "per_second": 3}}))
        .await;
    let sends =
        (0..40).map(|n| stage.try_send(CUSTOMER, Box::leak(format!("hello {n}").into_boxed_str())));
    let start = Instant::now();
    let mut refused = 0;
    for answer in futures::future::join_all(sends).await {
        let answer = answer.unwrap();
        if answer.status() != 200 {
            assert_eq!(code(answer).await, 130429);
            refused += 1;
        }
    }
    let windows = start.elapsed().as_secs() + 1;
    assert!(
        refused >= 40_u64.saturating_sub(3 * (windows + 1)) && refused > 0,
        "{refused} refused"
    );
    stage.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_good_again_after_its_repair() {
    let stage = Stage::start().await;
    let rule = stage
        .fault(json!({"phone_number_id": PHONE, "fault": {"kind": "token_expired"}}))
        .await;
    let answer = stage.try_send(CUSTOMER, "hello").await.unwrap();
    assert_eq!(answer.status(), 401);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        (&body["error"]["code"], &body["error"]["error_subcode"]),
        (&json!(190), &json!(463))
    );
    stage
        .control("DELETE", &format!("faults/{}", rule["id"]), Value::Null)
        .await;
    stage.send(CUSTOMER, "hello").await;
    // The other way: another token from now on.
    stage
        .control(
            "PATCH",
            &format!("accounts/{PHONE}"),
            json!({"token": "token-new"}),
        )
        .await;
    assert_eq!(
        stage.try_send(CUSTOMER, "hello").await.unwrap().status(),
        401
    );
    let answer = stage
        .post(PHONE, "token-new", &text_body(CUSTOMER, "hello"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    stage.stop().await;
}

#[tokio::test]
async fn knobs_compose_with_probability_and_the_same_seed_repeats_them() {
    let pattern = || async {
        let stage = Stage::start().await;
        stage
            .fault(json!({"probability": 0.5, "fault": {"kind": "error", "code": 131016}}))
            .await;
        stage
            .fault(json!({"probability": 0.5, "fault": {"kind": "duplicate_receipts"}}))
            .await;
        for _ in 0..30 {
            stage.try_send(CUSTOMER, "hello").await.unwrap();
        }
        let calls = stage.get("calls").await;
        let faults: Vec<_> = calls["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["faults"].clone())
            .collect();
        stage.stop().await;
        faults
    };
    let (first, second) = (pattern().await, pattern().await);
    assert_eq!(first, second);
    let both = json!(["duplicate_receipts", "error"]);
    assert!(
        first.contains(&json!([])) && first.contains(&both),
        "{first:?}"
    );
}

#[tokio::test]
async fn a_knob_that_is_not_known_is_refused_with_its_name() {
    let stage = Stage::start().await;
    for (rule, names) in [
        (
            json!({"fault": {"kind": "hang", "forever": true}}),
            "forever",
        ),
        (json!({"fault": {"kind": "gremlins"}}), "gremlins"),
        (
            json!({"number": CUSTOMER, "fault": {"kind": "hang"}}),
            "number",
        ),
        (
            json!({"probability": 1.5, "fault": {"kind": "hang"}}),
            "probability",
        ),
        (json!({"count": 0, "fault": {"kind": "hang"}}), "count"),
        (
            json!({"fault": {"kind": "error", "code": 1, "status": 99}}),
            "status",
        ),
        (
            json!({"fault": {"kind": "missing_receipts", "steps": []}}),
            "steps",
        ),
        (
            json!({"fault": {"kind": "latency", "ms": [9, 1]}}),
            "milliseconds",
        ),
    ] {
        let (status, body) = stage.try_control("POST", "faults", rule).await;
        assert_eq!(status, 422);
        assert!(body["error"].as_str().unwrap().contains(names), "{body}");
    }
    assert_eq!(stage.get("faults").await, json!({"faults": []}));
    until(|| stage.get("stats"), |stats| stats["calls"]["total"] == 0).await;
    stage.stop().await;
}
