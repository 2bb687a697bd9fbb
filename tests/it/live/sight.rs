//! Who is shown what: the rule of queries, at the moment of the event.

use chat4all_domain::{ConversationId, ParticipantId};
use chat4all_service::auth::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Came, Events, Socket};
use super::follower::{of_conversation, of_mine};
use super::{of_users, user};
use crate::journeys::system::{System, text};

const PHONE: &str = "4915150000078";
pub const DEAD_LETTERS: &str = "subscription ($after: String) { deadLetterEvents(after: $after) {
    cursor deadLetters { id kind failureReason reason conversationId position } } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_leaves_is_shown_no_more_and_who_is_not_there_nothing() {
    let system = System::start();
    let ana = system.full("ana");
    let [ben, eve] = ["ben", "eve"].map(|sub| system.token(sub, MINE));
    let group = of_users(&system, &ana).await;
    let ids = json!({"id": group});

    // A stranger is told what they would be told of a conversation that does not exist.
    let mut stranger = Socket::graphql(&system, &eve).await.unwrap();
    let mut refused = Vec::new();
    for id in [group.as_str(), "0191e2f4-7c1e-7a3b-8f00-000000000001"] {
        stranger
            .subscribe(id, &of_conversation(), json!({"id": id}))
            .await;
        let Came::Frame(mut frame) = stranger.next().await else {
            panic!("ended")
        };
        assert_eq!(
            (&frame["type"], &frame["id"]),
            (&json!("error"), &json!(id))
        );
        let mut said = frame["payload"].take();
        said[0]["extensions"]["trace_id"].take();
        assert_eq!(said[0]["extensions"]["code"], "not_found");
        refused.push(said);
    }
    assert_eq!(refused[0], refused[1]);
    let path = format!("/v1/conversations/{group}/events");
    assert_eq!(
        Events::open(&system, &eve, &path, None).await.err(),
        Some(404)
    );
    stranger.subscribe("mine", &of_mine(), json!({})).await;
    assert_eq!(stranger.update().await["events"], json!([]));

    // Ben, who is there, and is removed.
    let mut bens = Socket::graphql(&system, &ben).await.unwrap();
    bens.subscribe("one", &of_conversation(), ids.clone()).await;
    let begin = bens.update().await["cursor"].clone();
    let first = say(&system, &ana, &group, "for both").await;
    assert_eq!(message(&bens.update().await), first);
    let participant = participant(&group, "ben");
    let url = format!("/v1/conversations/{group}/participants/{participant}");
    let removed = system.request(Method::DELETE, format!("{}{url}", system.commands()));
    assert_eq!(system.send(removed.bearer_auth(&ana)).await.status, 200);
    let last = bens.update().await;
    assert_eq!(last["events"][0]["participantId"], json!(participant));
    let ended = error_or_complete(bens.next().await);
    assert_eq!(
        (&ended["type"], &ended["payload"][0]["extensions"]["code"]),
        (&json!("error"), &json!("not_found"))
    );
    let second = say(&system, &ana, &group, "without ben").await;
    // Coming back is possible for what he was there for, and ends where he left.
    let after = json!({"id": group, "after": begin});
    bens.subscribe("two", &of_conversation(), after).await;
    assert_eq!(message(&bens.update().await), first);
    assert_eq!(
        bens.update().await["events"][0]["participantId"],
        json!(participant)
    );
    assert_eq!(error_or_complete(bens.next().await)["type"], "error");
    bens.subscribe("three", &of_conversation(), ids.clone())
        .await;
    assert_eq!(
        error_or_complete(bens.next().await)["payload"][0]["extensions"]["code"],
        "not_found"
    );

    // Eve joins: from there on, and her own joining.
    let body = json!({"user_id": user("eve")});
    let path = format!("/v1/conversations/{group}/participants");
    let joined = system.post(&ana, &path, &body).await;
    assert!(joined.status.is_success(), "{}", joined.body);
    let hers = stranger.update().await;
    assert_eq!(hers["events"][0]["conversationId"], json!(group));
    let third = say(&system, &ana, &group, "for eve").await;
    assert_eq!(message(&stranger.update().await), third);

    // A conversation that somebody starts with her while she follows: from its first event on.
    let body = json!({"kind": "group", "participants": [{"user_id": user("eve")}]});
    let started = system.posted(&ana, "/v1/conversations", &body, 201).await;
    let id = started["conversation_id"].as_str().unwrap();
    let hers = stranger.update().await;
    let events = hers["events"].as_array().unwrap().iter();
    let told = events.map(|event| {
        let kind = event["__typename"].as_str().unwrap().to_owned();
        (kind, event["conversationId"].as_str().unwrap().to_owned())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(
        told,
        [("ConversationStarted".to_owned(), id.to_owned())],
        "{hers}"
    );
    let fourth = say(&system, &ana, id, "welcome").await;
    assert_eq!(message(&stranger.update().await), fourth);
    assert!(first != second && second != third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn news_of_a_message_is_for_those_who_saw_it_and_a_failure_for_operators() {
    let system = System::start();
    let (ana, eve) = (system.full("ana"), system.token("eve", MINE));
    let operator = system.token("op", &[Scope::DeadLettersRead]);
    let group = system.group(&ana, &[PHONE]).await;
    let mut operators = Socket::graphql(&system, &operator).await.unwrap();
    operators.subscribe("dead", DEAD_LETTERS, json!({})).await;
    let begin = operators.update().await["cursor"].clone();
    operators.subscribe("mine", &of_mine(), json!({})).await;
    let refused = error_or_complete(operators.next().await);
    assert_eq!(
        refused["payload"][0]["extensions"]["code"], "forbidden",
        "{refused}"
    );

    // Held at the provider until eve is there: what happens to it then is about a message that she does not see.
    let fault = json!({"to": PHONE, "fault": {"kind": "error", "code": 131_026}});
    system.control(Method::POST, "faults", fault).await;
    let mut anas = Socket::graphql(&system, &ana).await.unwrap();
    anas.subscribe("mine", &of_mine(), json!({})).await;
    anas.update().await;
    let before = say(&system, &ana, &group, "before eve").await;
    while anas.update().await["events"][0]["status"] != "FAILED" {}
    let body = json!({"user_id": user("eve")});
    let path = format!("/v1/conversations/{group}/participants");
    let joined = system.post(&ana, &path, &body).await;
    assert!(joined.status.is_success(), "{}", joined.body);
    let mut eves = Socket::graphql(&system, &eve).await.unwrap();
    eves.subscribe("one", &of_conversation(), json!({"id": group}))
        .await;
    assert_eq!(eves.update().await["events"], json!([]));
    system.control(Method::DELETE, "faults", Value::Null).await;
    let path = format!("/v1/conversations/{group}/messages/{before}/redrive");
    system.posted(&ana, &path, &json!({}), 202).await;
    while anas.update().await["events"][0]["status"] != "READ" {}
    let after = say(&system, &ana, &group, "with eve").await;
    let mut seen = Vec::new();
    while seen.last() != Some(&(after.clone(), "READ".into())) {
        let update = eves.update().await;
        for event in update["events"].as_array().unwrap() {
            let status = event["status"].as_str().unwrap_or("new").to_owned();
            seen.push((event["messageId"].as_str().unwrap().to_owned(), status));
        }
    }
    assert!(
        seen.iter().all(|(id, _)| *id == after),
        "{seen:?} has {before}"
    );
    assert_eq!(seen[0], (after, "new".to_owned()));

    // The failure, once; the details by its id; and again for who was away.
    let letter = operators.update().await;
    let notice = &letter["deadLetters"][0];
    assert_eq!(notice["kind"], "FAILED_DELIVERY");
    assert_eq!(
        notice["id"],
        json!(format!("failed-delivery:{group}:{before}:0"))
    );
    operators
        .subscribe("again", DEAD_LETTERS, json!({"after": begin}))
        .await;
    assert_eq!(operators.update().await, letter);
    // What came in and was put aside, as the bridges do it.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("reason", "it has no sender");
    let subject = "chat.parked.whatsapp.item.whatsapp-main";
    let jetstream = system.jetstream().await;
    let put = jetstream.publish_with_headers(subject, headers, "{}".into());
    let put = put.await.unwrap().await.unwrap();
    let letter = loop {
        let update = operators.update().await;
        if update["deadLetters"] != json!([]) {
            break update;
        }
    };
    let notice = &letter["deadLetters"][0];
    assert_eq!(
        notice["id"],
        json!(format!("parked-inbound:{}", put.sequence))
    );
    assert_eq!(
        (&notice["kind"], &notice["reason"]),
        (&json!("PARKED_INBOUND"), &json!("it has no sender"))
    );
}

const MINE: &[Scope] = &[Scope::ConversationsRead];

async fn say(system: &System, token: &str, group: &str, words: &str) -> String {
    let said = system
        .posted(token, "/v1/messages", &text(group, words), 202)
        .await;
    said["message_id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn message(update: &Value) -> String {
    let id = update["events"][0]["messageId"].as_str();
    id.unwrap_or_else(|| panic!("{update}")).to_owned()
}

fn error_or_complete(came: Came) -> Value {
    let Came::Frame(frame) = came else {
        panic!("{came:?}")
    };
    assert!(
        ["error", "complete"]
            .iter()
            .any(|kind| frame["type"] == *kind),
        "{frame}"
    );
    frame
}

fn participant(group: &str, sub: &str) -> ParticipantId {
    let conversation: ConversationId = group.parse().unwrap();
    ParticipantId::of_user(conversation, user(sub))
}
