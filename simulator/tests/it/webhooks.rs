//! What the business is told: form, signature, repeats, handshake.

use serde_json::{Value, json};

use crate::support::{CUSTOMER, OTHER_PHONE, PHONE, Receiver, Stage, account, text_body, until};

#[tokio::test]
async fn the_body_of_each_status_is_the_providers() {
    let stage = Stage::with(|config| config.settings.batch_max = 1).await;
    let wamid = stage.send(CUSTOMER, "hello").await;
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    let mut bodies = stage.receiver.bodies();
    let mut conversations = Vec::new();
    for body in &mut bodies {
        let status = &mut body["entry"][0]["changes"][0]["value"]["statuses"][0];
        assert!(
            status["timestamp"]
                .take()
                .as_str()
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );
        if let Some(conversation) = status.get_mut("conversation") {
            conversations.push(conversation["id"].take());
            if let Some(expires) = conversation.get_mut("expiration_timestamp") {
                assert!(expires.take().is_string());
            }
        }
    }
    assert!(
        conversations.len() == 2 && conversations[0] == conversations[1],
        "{conversations:?}"
    );
    let pricing = json!({
        "billable": false, "pricing_model": "PMP", "category": "service", "type": "free_customer_service",
    });
    let body = |status: Value| {
        json!({
            "object": "whatsapp_business_account",
            "entry": [{"id": "102290129340398", "changes": [{"field": "messages", "value": {
                "messaging_product": "whatsapp",
                "metadata": {"display_phone_number": "4930242922", "phone_number_id": PHONE},
                "contacts": [{"profile": {"name": "Customer 5678"}, "wa_id": CUSTOMER}],
                "statuses": [status],
            }}]}],
        })
    };
    let expected = [
        body(json!({
            "id": wamid, "status": "sent", "timestamp": null, "recipient_id": CUSTOMER, "pricing": pricing,
            "conversation": {"id": null, "origin": {"type": "service"}, "expiration_timestamp": null},
        })),
        body(json!({
            "id": wamid, "status": "delivered", "timestamp": null, "recipient_id": CUSTOMER, "pricing": pricing,
            "conversation": {"id": null, "origin": {"type": "service"}},
        })),
        body(json!({"id": wamid, "status": "read", "timestamp": null, "recipient_id": CUSTOMER})),
    ];
    assert_eq!(bodies, expected);
    stage.stop().await;
}

#[tokio::test]
async fn a_webhook_is_repeated_until_it_is_answered_with_200() {
    let stage = Stage::with(|config| config.settings.batch_max = 1).await;
    stage.receiver.refuse_next(4);
    let wamid = stage.send(CUSTOMER, "hello").await;
    let stats = stage.quiet().await;
    let mut steps = stage.receiver.steps(&wamid);
    steps.sort();
    assert_eq!(steps, ["delivered", "read", "sent"]);
    assert_eq!(stage.receiver.refused(), 4);
    assert_eq!(
        (
            &stats["webhooks"]["calls"],
            &stats["webhooks"]["failed_calls"]
        ),
        (&json!(7), &json!(4))
    );
    let record = stage.get(&format!("webhooks?to={CUSTOMER}")).await;
    let attempts: u64 = record["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["attempts"].as_u64().unwrap())
        .sum();
    assert_eq!(attempts, 7);
    assert!(
        record["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["state"] == "delivered")
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_webhook_that_is_never_answered_is_given_up() {
    let stage = Stage::with(|config| config.settings.retry_give_up_ms = 10_000).await;
    stage.receiver.refuse_next(u64::MAX);
    stage.send(CUSTOMER, "hello").await;
    let stats = stage.quiet().await;
    assert_eq!(
        (
            &stats["webhooks"]["given_up"],
            &stats["webhooks"]["delivered"]
        ),
        (&json!(3), &json!(0))
    );
    assert!(stage.receiver.refused() >= 3);
    stage.stop().await;
}

#[tokio::test]
async fn what_is_due_together_goes_in_one_call() {
    let stage = Stage::with(|config| config.settings.batch_max = 100).await;
    stage.receiver.refuse_next(1);
    stage
        .control(
            "PATCH",
            "settings",
            json!({"retry_first_ms": 20_000, "sent_ms": 0, "delivered_ms": 0, "read_ms": 0}),
        )
        .await;
    for n in 0..20 {
        stage.send(CUSTOMER, &format!("hello {n}")).await;
    }
    stage.quiet().await;
    assert_eq!(stage.receiver.all().len(), 60);
    assert!(
        stage.receiver.bodies().len() < 60,
        "{}",
        stage.receiver.bodies().len()
    );
    stage.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_without_a_handshake() {
    let receiver = Receiver::start().await;
    receiver.break_handshake();
    let url = receiver.url.clone();
    let stage = Stage::with(|config| {
        let mut unsubscribed = account("106540352242944", Some(&url));
        unsubscribed.auto_subscribe = false;
        config.accounts.push(unsubscribed);
    })
    .await;
    let path = "accounts/106540352242944/subscribe";
    let (status, body) = stage.try_control("POST", path, Value::Null).await;
    assert_eq!(
        (status, body),
        (
            409,
            json!({"error": "the webhook did not answer with the challenge"})
        )
    );
    stage
        .control(
            "PATCH",
            "accounts/106540352242944",
            json!({"verify_token": "wrong", "webhook_url": stage.receiver.url}),
        )
        .await;
    let (status, body) = stage.try_control("POST", path, Value::Null).await;
    assert_eq!(
        (status, body),
        (
            409,
            json!({"error": "the webhook answered 403; it must be 200"})
        )
    );
    let write = json!({"text": "anybody there?", "phone_number_id": "106540352242944"});
    stage
        .control(
            "POST",
            &format!("phones/{CUSTOMER}/messages"),
            write.clone(),
        )
        .await;
    let stats = stage.quiet().await;
    assert_eq!(stats["webhooks"]["unsubscribed"], 1);
    stage
        .control(
            "PATCH",
            "accounts/106540352242944",
            json!({"verify_token": "verify-good"}),
        )
        .await;
    assert_eq!(
        stage.control("POST", path, Value::Null).await["subscription"],
        "active"
    );
    stage
        .control("POST", &format!("phones/{CUSTOMER}/messages"), write)
        .await;
    until(|| async { stage.receiver.all().len() }, |count| *count == 1).await;
    assert!(receiver.all().is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn webhooks_wait_for_a_receiver_that_starts_later() {
    let stage = Stage::with(|config| config.accounts.clear()).await;
    let broken = Receiver::start().await;
    broken.break_handshake();
    let mut fields = json!({
        "display_phone_number": "+49 30 242922", "waba_id": "1", "token": format!("token-{PHONE}"),
        "app_secret": format!("secret-{PHONE}"), "verify_token": "verify-x", "webhook_url": broken.url,
    });
    stage
        .control("PUT", &format!("accounts/{PHONE}"), fields.clone())
        .await;
    let wamid = stage.send(CUSTOMER, "hello").await;
    let stats = stage.get("stats").await;
    assert_eq!(stats["webhooks"]["pending"], 3);
    fields["webhook_url"] = json!(stage.receiver.url);
    stage
        .control("PUT", &format!("accounts/{PHONE}"), fields)
        .await;
    until(
        || async { stage.receiver.steps(&wamid).len() },
        |count| *count == 3,
    )
    .await;
    assert!(broken.all().is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn a_business_whose_webhook_hangs_delays_nobody_else() {
    let stage = Stage::with(|config| config.settings.webhook_timeout_ms = 500).await;
    let hung = Receiver::start().await;
    hung.hang();
    stage
        .control(
            "PATCH",
            &format!("accounts/{OTHER_PHONE}"),
            json!({"webhook_url": hung.url}),
        )
        .await;
    let other = format!("token-{OTHER_PHONE}");
    for n in 0..100 {
        let to = format!("491511{n:07}");
        let answer = stage
            .post(OTHER_PHONE, &other, &text_body(&to, "into the void"))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let wamid = stage.send(&to, "hello").await;
        stage.told(&wamid, &["sent", "delivered", "read"]).await;
    }
    let stats = stage.get("stats").await;
    assert_eq!(
        (
            &stats["webhooks"]["delivered"],
            &stats["webhooks"]["pending"]
        ),
        (&json!(300), &json!(300))
    );
    // A call that is not answered in time is made again.
    until(
        || stage.get("stats"),
        |stats| stats["webhooks"]["failed_calls"].as_u64() > Some(0),
    )
    .await;
}
