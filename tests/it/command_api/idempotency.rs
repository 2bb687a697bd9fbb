//! The same key, the same answer: at once, much later, after restarts, whoever came and went.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::json;

use super::stack::{Answer, Api, Broker};
use super::{fresh, id, message, to_phone, user};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_a_hundred_times_at_once_is_one_message() {
    let broker = Broker::start().await;
    let apis = [Api::start(&broker).await, Api::start(&broker).await];
    let group = apis[0].group(&["ana", "ben"]).await;
    let body = message(&group, "hello");
    let calls = (0..100).map(|n| {
        apis[n % 2]
            .post("ana", "/v1/messages", &body)
            .key("k")
            .expect(202)
    });
    let answers: Vec<Answer> = join_all(calls).await;
    let bodies: HashSet<String> = answers
        .iter()
        .map(|answer| answer.body.to_string())
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replay).count(), 1);
    assert_eq!(broker.events("MessageAccepted").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_or_another_author_under_the_same_id_is_refused() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let first = api
        .post("ana", "/v1/messages", &message(&group, "hello"))
        .key("k")
        .expect(202)
        .await;
    let other = api
        .post("ana", "/v1/messages", &message(&group, "hallo"))
        .key("k")
        .expect(422)
        .await;
    assert_eq!(other.body["code"], "idempotency_mismatch");
    // A key is the caller's own; a message id is shared by the conversation.
    api.post("ben", "/v1/messages", &message(&group, "hello"))
        .key("k")
        .expect(202)
        .await;
    let mut named = message(&group, "hello");
    named["message_id"] = first.body["message_id"].clone();
    let stranger = api.post("ben", "/v1/messages", &named).expect(422).await;
    assert_eq!(stranger.body["code"], "idempotency_mismatch");
    let same = api.post("ana", "/v1/messages", &named).expect(202).await;
    assert_eq!((same.replay, &same.body), (true, &first.body));
    assert_eq!(broker.events("MessageAccepted").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_answer_outlives_restarts_joining_and_leaving() {
    let mut broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let by_key = message(&group, "by key");
    let mut by_id = message(&group, &"long ".repeat(1_000));
    by_id["message_id"] = fresh().into();
    let first_by_key = api
        .post("ana", "/v1/messages", &by_key)
        .key("k")
        .expect(202)
        .await;
    let first_by_id = api.post("ana", "/v1/messages", &by_id).expect(202).await;
    let again = async |api: &Api| {
        let key = api
            .post("ana", "/v1/messages", &by_key)
            .key("k")
            .expect(202)
            .await;
        assert_eq!((key.replay, &key.body), (true, &first_by_key.body));
        let id = api.post("ana", "/v1/messages", &by_id).expect(202).await;
        assert_eq!((id.replay, &id.body), (true, &first_by_id.body));
    };
    again(&api).await;

    // Everything dies and comes back; nothing is cached any more.
    drop(api);
    broker.nats.kill().await;
    broker.nats.restart().await.unwrap();
    let api = Api::start(&broker).await;
    again(&api).await;

    // Somebody joins whose channel would not carry the long text now.
    let participants = format!("/v1/conversations/{group}/participants");
    let phone = json!({"channel": "whatsapp", "address": "+4915112345678"});
    api.post("ben", &participants, &phone).expect(200).await;
    again(&api).await;
    let too_long = api.post(
        "ana",
        "/v1/messages",
        &message(&group, &"long ".repeat(1_000)),
    );
    assert_eq!(
        too_long.expect(422).await.body["errors"][0]["pointer"],
        "/content/text"
    );

    // The author leaves.
    let conversation = group.parse().unwrap();
    let ana = chat4all_domain::ParticipantId::of_user(conversation, user("ana").parse().unwrap());
    let leave = api.call(reqwest::Method::DELETE, &format!("{participants}/{ana}"));
    leave
        .token(&super::stack::token(
            "ana",
            chat4all_service::auth::Scope::ALL,
        ))
        .expect(200)
        .await;
    again(&api).await;
    again(&Api::start(&broker).await).await;
    api.post("ana", "/v1/messages", &message(&group, "something new"))
        .expect(404)
        .await;
    let changed = api
        .post("ana", "/v1/messages", &message(&group, "changed"))
        .key("k");
    assert_eq!(
        changed.expect(422).await.body["code"],
        "idempotency_mismatch"
    );
    assert_eq!(broker.events("MessageAccepted").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_to_an_address_does_not_bring_back_an_author_who_left() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let body = to_phone("+4915112345678", "hello");
    let first = api
        .post("ana", "/v1/messages", &body)
        .key("k")
        .expect(202)
        .await;
    let conversation = id(&first.body, "conversation_id");
    let ana = chat4all_domain::ParticipantId::of_user(
        conversation.parse().unwrap(),
        user("ana").parse().unwrap(),
    );
    let path = format!("/v1/conversations/{conversation}/participants/{ana}");
    let leave = api.call(reqwest::Method::DELETE, &path);
    leave
        .token(&super::stack::token(
            "ana",
            chat4all_service::auth::Scope::ALL,
        ))
        .expect(200)
        .await;
    let again = api
        .post("ana", "/v1/messages", &body)
        .key("k")
        .expect(202)
        .await;
    assert_eq!((again.replay, &again.body), (true, &first.body));
    assert_eq!(broker.events("ParticipantJoined").await.len(), 0);
    // Something new brings the author in again.
    api.post("ana", "/v1/messages", &to_phone("+4915112345678", "again"))
        .expect(202)
        .await;
    assert_eq!(broker.events("ParticipantJoined").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_started_once_per_key() {
    let broker = Broker::start().await;
    let apis = [Api::start(&broker).await, Api::start(&broker).await];
    let body = |title: &str| {
        json!({"kind": "group", "title": title, "participants": [
            {"user_id": user("ben")}, {"channel": "whatsapp", "address": "+4915112345678"},
        ]})
    };
    let calls = (0..20).map(|n| {
        apis[n % 2]
            .post("ana", "/v1/conversations", &body("us"))
            .key("k")
            .expect(201)
    });
    let answers = join_all(calls).await;
    let bodies: HashSet<String> = answers
        .iter()
        .map(|answer| answer.body.to_string())
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replay).count(), 1);
    let group = id(&answers[0].body, "conversation_id");
    let add = json!({"user_id": user("carl")});
    apis[0]
        .post(
            "ana",
            &format!("/v1/conversations/{group}/participants"),
            &add,
        )
        .expect(200)
        .await;
    let again = apis[1]
        .post("ana", "/v1/conversations", &body("us"))
        .key("k")
        .expect(201)
        .await;
    assert_eq!(
        (again.replay, &again.body),
        (true, &answers[0].body),
        "as it was at the start"
    );
    let other = apis[0]
        .post("ana", "/v1/conversations", &body("them"))
        .key("k")
        .expect(422)
        .await;
    assert_eq!(other.body["code"], "idempotency_mismatch");
    assert_eq!(broker.events("ConversationStarted").await.len(), 1);
    assert_eq!(broker.events("IdentityRegistered").await.len(), 1);
}
