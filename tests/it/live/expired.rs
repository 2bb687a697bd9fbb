//! A token that expires while its owner is slow: what was written before may still come, what happens afterwards does not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Came, Socket, queries};
use super::connections::short_token;
use super::follower::of_mine;
use super::of_users;
use super::slow::{CHARS, LARGE, metric, with_texts};
use crate::journeys::system::{System, text};
use crate::journeys::until;

/// Of 128 kB each: more than the kernel keeps for who does not read.
const MESSAGES: usize = 64;
/// The server waits for a slow client for 30 s; the token counts for three.
const EXPIRED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_happens_after_a_token_has_expired_is_not_for_its_owner_however_slow() {
    let system = System::start();
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let mut before = Socket::graphql(&system, &ana).await.unwrap();
    before.subscribe("s", &of_mine(), json!({})).await;
    let mut last = before.update().await["cursor"].clone();
    drop(before);
    let post = async |said: &str| {
        let message = text(&group, said);
        let said = system.posted(&ana, "/v1/messages", &message, 202).await;
        said["message_id"].clone()
    };
    let large = LARGE.repeat(CHARS);
    let mut written = Vec::new();
    for _ in 0..MESSAGES {
        written.push(post(&large).await);
    }
    let open = async || metric(&system, "chat4all_live_subscriptions{about=\"mine\"} ").await;
    until("nobody", open, |open| *open == 0).await;

    // It wants all of them, and takes none.
    let protocol = Some("graphql-transport-ws");
    let slow = Socket::with_buffer(queries(&system), "/graphql", protocol, Some(4_096)).await;
    let mut slow = slow.unwrap();
    let begun = Instant::now();
    slow.introduce(&short_token(&system)).await;
    slow.subscribe("s", &with_texts(), json!({"after": last}))
        .await;
    until("its subscription", open, |open| *open == 1).await;
    until("the end of it", open, |open| *open == 0).await;
    assert!(begun.elapsed() < EXPIRED_WITHIN, "{:?}", begun.elapsed());
    written.push(post("afterwards").await);

    let mut shown = Vec::new();
    while let Came::Frame(frame) = slow.next().await {
        let update = &frame["payload"]["data"]["myEvents"];
        if update.is_object() {
            shown.extend(messages(update));
            last = update["cursor"].clone();
        }
    }
    assert!(shown.len() < MESSAGES, "it was not slow");

    // With a new token the rest comes, each message once.
    let mut again = Socket::graphql(&system, &ana).await.unwrap();
    again
        .subscribe("s", &of_mine(), json!({"after": last}))
        .await;
    while shown.len() < written.len() {
        shown.extend(messages(&again.update().await));
    }
    assert_eq!(shown, written);
}

fn messages(update: &Value) -> Vec<Value> {
    let events = update["events"].as_array().unwrap().iter();
    let accepted = events.filter(|event| event["__typename"] == "MessageAccepted");
    accepted.map(|event| event["messageId"].clone()).collect()
}
