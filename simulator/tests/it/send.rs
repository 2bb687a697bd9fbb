//! Sending: what is answered, what the customer sees, what is recorded.

use serde_json::{Value, json};

use crate::support::{CUSTOMER, OTHER_PHONE, PHONE, Stage, text_body, until};

#[tokio::test]
async fn a_text_is_answered_as_the_provider_does() {
    let stage = Stage::start().await;
    let answer = stage.try_send("+49 151 12345678", "hello").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["facebook-api-version"], "v25.0");
    let mut body: Value = answer.json().await.unwrap();
    let wamid = body["messages"][0]["id"].take();
    assert!(
        wamid
            .as_str()
            .unwrap()
            .starts_with("wamid.HBgNNDkxNTExMjM0NTY3OBUCABEYE"),
        "{wamid}"
    );
    assert_eq!(
        body,
        json!({
            "messaging_product": "whatsapp",
            "contacts": [{"input": "+49 151 12345678", "wa_id": CUSTOMER}],
            "messages": [{"id": null}],
        })
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_message_is_sent_then_delivered_then_read() {
    let stage = Stage::start().await;
    let wamid = stage.send(CUSTOMER, "hello").await;
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    let phone = stage.get(&format!("phones/{CUSTOMER}")).await;
    assert_eq!(phone["messages"][0]["text"], "hello");
    assert_eq!(phone["messages"][0]["status"], "read");
    stage.stop().await;
}

#[tokio::test]
async fn what_the_customer_writes_comes_in_and_can_be_marked_read() {
    let stage = Stage::start().await;
    let sent = stage.send(CUSTOMER, "how was it?").await;
    stage
        .control(
            "PATCH",
            &format!("phones/{CUSTOMER}"),
            json!({"name": "Ada"}),
        )
        .await;
    let path = format!("phones/{CUSTOMER}/messages");
    let written = stage
        .control("POST", &path, json!({"text": "good", "reply_to": sent}))
        .await;
    let wamid = written["id"].as_str().unwrap();
    let inbound = until(
        || async { stage.receiver.all() },
        |all| all.iter().any(|received| received.list == "messages"),
    )
    .await
    .into_iter()
    .find(|received| received.list == "messages")
    .unwrap();
    assert_eq!(inbound.phone_number_id, PHONE);
    let mut item = inbound.item;
    assert!(item["timestamp"].take().is_string());
    assert_eq!(
        item,
        json!({
            "from": CUSTOMER, "id": wamid, "timestamp": null, "type": "text", "text": {"body": "good"},
            "context": {"from": "4930242922", "id": sent},
        })
    );
    let mark = json!({
        "messaging_product": "whatsapp", "status": "read", "message_id": wamid,
        "typing_indicator": {"type": "text"},
    });
    let answer = stage
        .post(PHONE, &format!("token-{PHONE}"), &mark)
        .await
        .unwrap();
    assert_eq!(
        answer.json::<Value>().await.unwrap(),
        json!({"success": true})
    );
    let phone = stage.get(&format!("phones/{CUSTOMER}")).await;
    assert_eq!(
        (&phone["messages"][1]["status"], &phone["typing"]),
        (&json!("read"), &json!(true))
    );
    stage.stop().await;
}

#[tokio::test]
async fn every_call_is_recorded_with_its_headers_and_without_its_token() {
    let stage = Stage::start().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = stage
        .http
        .post(format!("{}/v25.0/{PHONE}/messages", stage.sim.url()))
        .bearer_auth(format!("token-{PHONE}"))
        .header("traceparent", traceparent)
        .json(&text_body(CUSTOMER, "hello"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let page = stage.get(&format!("calls?to={CUSTOMER}")).await;
    let call = &page["items"][0];
    assert_eq!(call["traceparent"], traceparent);
    assert_eq!(call["headers"]["content-type"], "application/json");
    assert_eq!(call["headers"]["authorization"], "***");
    assert_eq!(call["body"]["text"]["body"], "hello");
    assert_eq!(
        (&call["accepted"], &call["status"]),
        (&json!(true), &json!(200))
    );
    assert!(!page.to_string().contains("token-"), "{page}");
    stage.stop().await;
}

#[tokio::test]
async fn two_business_numbers_do_not_mix() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"phone_number_id": OTHER_PHONE, "fault": {"kind": "error", "code": 131016}}))
        .await;
    let wamid = stage.send(CUSTOMER, "from the first").await;
    let refused = stage
        .post(
            OTHER_PHONE,
            &format!("token-{OTHER_PHONE}"),
            &text_body(CUSTOMER, "from the second"),
        )
        .await
        .unwrap();
    assert_eq!(refused.status(), 500);
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    assert!(
        stage
            .receiver
            .all()
            .iter()
            .all(|received| received.phone_number_id == PHONE)
    );
    // A token is good for its own number only.
    let foreign = stage
        .post(
            OTHER_PHONE,
            &format!("token-{PHONE}"),
            &text_body(CUSTOMER, "x"),
        )
        .await
        .unwrap();
    let body: Value = foreign.json().await.unwrap();
    assert_eq!(
        (&body["error"]["code"], &body["error"]["error_subcode"]),
        (&json!(100), &json!(33))
    );
    let path = format!("calls?phone_number_id={OTHER_PHONE}");
    assert_eq!(stage.get(&path).await["items"].as_array().unwrap().len(), 2);
    stage.stop().await;
}
