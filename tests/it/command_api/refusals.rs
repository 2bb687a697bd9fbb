//! What is refused before anything is decided.

use chat4all_service::auth::Scope;
use reqwest::Method;
use serde_json::json;

use super::message;
use super::stack::{Api, Broker, token};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_right_token() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let send = || {
        api.call(Method::POST, "/v1/messages")
            .json(&message(&group, "hello"))
    };
    assert_eq!(send().expect(401).await.body["code"], "unauthorized");
    assert_eq!(
        send().token("nonsense").expect(401).await.body["code"],
        "unauthorized"
    );
    let reader = token(
        "ana",
        &[Scope::ConversationsRead, Scope::ConversationsWrite],
    );
    let refused = send().token(&reader).expect(403).await;
    assert_eq!(refused.body["scope"], "messages:write");
    // Who may not is not told what is wrong with the body.
    let broken = api.call(Method::POST, "/v1/messages").body("{".to_owned());
    broken.token(&reader).expect(403).await;
    let writer = token("ana", &[Scope::MessagesWrite]);
    send().token(&writer).expect(202).await;
    let body = json!({"kind": "direct", "participants": []});
    let start = api
        .call(Method::POST, "/v1/conversations")
        .json(&body)
        .token(&writer);
    assert_eq!(start.expect(403).await.body["scope"], "conversations:write");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_or_not_understood_is_refused() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let all = token("ana", Scope::ALL);
    let large = message(&group, &"x".repeat(256 * 1024));
    assert_eq!(
        api.post("ana", "/v1/messages", &large)
            .expect(413)
            .await
            .body["code"],
        "payload_too_large"
    );
    let mut unknown = message(&group, "hello");
    unknown["colour"] = "red".into();
    let refused = api.post("ana", "/v1/messages", &unknown).expect(422).await;
    assert_eq!(refused.body["errors"][0]["pointer"], "/colour");
    // Nor does a list stand for the object that has its entries as fields.
    let list = json!({"kind": "group", "participants": [["0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d"]]});
    let refused = api
        .post("ana", "/v1/conversations", &list)
        .expect(422)
        .await;
    let expected =
        json!({"pointer": "/participants/0", "detail": "found an array, expected an object"});
    assert_eq!(refused.body["errors"], json!([expected]));
    let plain = api
        .call(Method::POST, "/v1/messages")
        .token(&all)
        .header("content-type", "text/plain");
    plain.expect(415).await;
    let key = api
        .post("ana", "/v1/messages", &message(&group, "hello"))
        .key(&"k".repeat(256));
    assert_eq!(
        key.expect(422).await.body["errors"][0]["pointer"],
        "/Idempotency-Key"
    );
    for (path, pointer) in [
        ("/v1/messages?at_least=yesterday", "/at_least"),
        ("/v1/messages?at_least=63-1", "/at_least"),
        ("/v1/messages?atleast=00-1", "/atleast"),
        ("/v1/conversations/here/read", "/conversation_id"),
    ] {
        let refused = api
            .post("ana", path, &message(&group, "hello"))
            .expect(422)
            .await;
        assert_eq!(
            refused.body["errors"][0]["pointer"], pointer,
            "{}",
            refused.body
        );
    }
    assert_eq!(broker.events("MessageAccepted").await.len(), 0);
}
