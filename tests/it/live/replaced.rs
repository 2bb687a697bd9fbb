//! The log is replaced by another one while somebody is still catching up with it: they are told to load anew.

use std::time::Duration;

use chat4all_domain::{MessageId, message};
use serde_json::json;
use uuid::Uuid;

use super::alone::{QueryApi, operator};
use super::client::{Came, Events, Socket};
use super::follower::of_mine;
use crate::journeys::until;
use crate::projector::story::{Story, conversation};
use crate::support::log::{layout, provisioned, relaxed_node};

/// More than a subscription joins at, and more in bytes than a connection holds.
const MESSAGES: u64 = 2_000;
const LARGE: &str = "\u{1F40C}";
const CHARS: usize = 4_096;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_still_catching_up_when_the_log_is_replaced_is_told_to_load_anew() {
    let mut node = relaxed_node().await;
    let story = Story::new(&node.log);
    let id = conversation(1);
    story.start(id, 2, 0).await.unwrap();
    let words = LARGE.repeat(CHARS);
    for number in 0..MESSAGES {
        let message = message::Id {
            conversation: id,
            message: MessageId::new(Uuid::from_u128(u128::from(number) + 1)),
        };
        story.accept(message, &words, &[]).await.unwrap();
    }
    let api = QueryApi::start(&node.nats.url());
    let token = operator();
    let events = async || Events::open_at(&api.base, &token, "/v1/events", None).await;
    let mut there = None;
    let follows = async || {
        there = events().await.ok();
        there.is_some()
    };
    until("it follows", follows, |follows| *follows).await;
    let mut level = there.unwrap();
    assert!(level.next().await.unwrap().id.is_some());

    let path = format!("/v1/notifications?token={token}");
    let thin = Socket::with_buffer(&api.base, &path, None, None).await;
    let mut thin = thin.unwrap();
    assert!(matches!(thin.next().await, Came::Frame(frame) if frame["type"] == "connected"));

    // Far behind, and slow.
    let protocol = Some("graphql-transport-ws");
    let slow = Socket::with_buffer(&api.base, "/graphql", protocol, Some(4_096)).await;
    let mut slow = slow.unwrap();
    slow.introduce(&token).await;
    let wants = of_mine().replace(
        "messageId }",
        "messageId content { ... on TextContent { text } } }",
    );
    slow.subscribe("s", &wants, json!({"after": "0.0.0.0.0.0.0.0"}))
        .await;
    assert_eq!(slow.update().await["events"].as_array().unwrap().len(), 1);

    // Another log, on which nothing has happened yet.
    node.nats.kill().await;
    let streams = node.nats.dir().join("jetstream");
    std::fs::remove_dir_all(&streams).unwrap();
    node.nats.restart().await.unwrap();
    provisioned(&node.nats.url(), &layout(1)).await;
    // Heartbeats come all the time: only an event ends the wait.
    let told = tokio::time::timeout(Duration::from_secs(60), level.next()).await;
    let end = told.expect("it is not told").unwrap();
    assert_eq!(end.name.as_deref(), Some("end"), "{end:?}");
    assert_eq!(end.data["code"], "resync", "{end:?}");
    // A thin client has no cursor: it is told to load anew and to come back.
    let told = loop {
        match thin.next().await {
            Came::Frame(frame) if frame["type"] == "ping" => {}
            came => break came,
        }
    };
    assert_eq!(told, Came::Frame(json!({"type": "resync"})));
    assert!(matches!(thin.next().await, Came::Close(1001, _)));

    // What had left already, and then the truth.
    let mut shown = 1;
    let refused = loop {
        let Came::Frame(frame) = slow.next().await else {
            panic!("ended after {shown}");
        };
        if frame["type"] == "error" {
            break frame;
        }
        shown += 1;
    };
    let said = &refused["payload"][0];
    assert_eq!(said["extensions"]["code"], "resync", "{refused}");
    let detail = said["message"].as_str().unwrap();
    assert!(detail.contains("log is not the same"), "{detail}");
    assert!(shown < MESSAGES, "it was not behind");
    // The others follow the new one.
    let mut anew = None;
    let follows = async || {
        anew = events().await.ok();
        anew.is_some()
    };
    until("it follows the new log", follows, |follows| *follows).await;
}
