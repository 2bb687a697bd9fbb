//! An event that this release cannot read: told at once to those who look after such things, and shown to nobody else.

use chat4all_domain::{MessageId, PartitionCount, message};
use chat4all_nats::subject;
use chat4all_service::auth::Scope;
use serde_json::json;
use uuid::Uuid;

use super::client::Socket;
use super::follower::of_mine;
use super::of_users;
use super::sight::DEAD_LETTERS;
use crate::journeys::system::{System, text};

const DETAILS: &str = "query ($id: ID!, $position: Position) { node(id: $id, atLeast: $position) {
    ... on PoisonEvent { kind position subject conversationId error } } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_that_cannot_be_read_is_told_to_operators_live_and_the_conversation_goes_on() {
    let system = System::start();
    let ana = system.full("ana");
    let operator = system.token("op", &[Scope::DeadLettersRead]);
    let group = of_users(&system, &ana).await;
    let mut anas = Socket::graphql(&system, &ana).await.unwrap();
    anas.subscribe("mine", &of_mine(), json!({})).await;
    anas.update().await;
    let mut operators = Socket::graphql(&system, &operator).await.unwrap();
    operators.subscribe("dead", DEAD_LETTERS, json!({})).await;
    let begin = operators.update().await["cursor"].clone();

    // Among the messages of her conversation, and no release of ours wrote it.
    let broken = message::Id {
        conversation: group.parse().unwrap(),
        message: MessageId::new(Uuid::now_v7()),
    };
    let at = subject::of(PartitionCount::new(8).unwrap(), &broken);
    let (partition, _) = subject::parse(&at).unwrap();
    let jetstream = system.jetstream().await;
    let stored = jetstream.publish(at.clone(), "no envelope".into());
    let stored = stored.await.unwrap().await.unwrap();
    let position = format!("{partition}-{}", stored.sequence);

    let told = loop {
        let mut update = operators.update().await;
        if update["deadLetters"] != json!([]) {
            break update["deadLetters"].take();
        }
    };
    let id = format!("poison-event:{position}");
    let notice = json!({
        "id": id,
        "kind": "POISON_EVENT",
        "failureReason": null,
        "reason": "the message is not an event envelope",
        "conversationId": group,
        "position": position,
    });
    assert_eq!(told, json!([notice]));
    // Again for who was away, and under its id with the details.
    let after = json!({"after": begin});
    operators.subscribe("again", DEAD_LETTERS, after).await;
    assert_eq!(operators.update().await["deadLetters"], told);
    let variables = json!({"id": id, "position": position});
    let details = system.data(&operator, DETAILS, variables).await;
    let node = json!({
        "kind": "POISON_EVENT",
        "position": position,
        "subject": at,
        "conversationId": group,
        "error": "the message is not an event envelope: wrong at line 1, column 2",
    });
    assert_eq!(details["node"], node);

    // What comes behind it is the next thing that she is shown.
    let said = text(&group, "as if nothing had happened");
    let said = system.posted(&ana, "/v1/messages", &said, 202).await;
    let shown = anas.update().await;
    assert_eq!(shown["events"][0]["messageId"], said["message_id"]);
}
