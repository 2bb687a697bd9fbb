//! How many connections one caller may have, and how many those may have who do not say who they are.

use serde_json::json;

use super::client::{Came, Events, Socket, queries};
use super::slow::metric;
use crate::journeys::system::System;
use crate::journeys::until;

const GRAPHQL: Option<&str> = Some("graphql-transport-ws");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_has_more_connections_than_one_may_and_strangers_keep_nobody_out() {
    let system = System::with(|command| {
        command.env("CHAT4ALL_LIVE__MAX_CONNECTIONS_PER_CALLER", "3");
        command.env("CHAT4ALL_LIVE__MAX_STRANGERS", "2");
    });
    let (ana, ben) = (system.full("ana"), system.full("ben"));
    let with_token = |token: &str| format!("/graphql?token={token}");
    let notifications = |token: &str| format!("/v1/notifications?token={token}");

    // Three of hers, however they come in.
    let first = Socket::graphql(&system, &ana).await.unwrap();
    let mut events = Events::open(&system, &ana, "/v1/events", None)
        .await
        .unwrap();
    assert!(events.next().await.unwrap().id.is_some());
    let mut thin = Socket::open(&system, &notifications(&ana), None)
        .await
        .unwrap();
    assert!(matches!(thin.next().await, Came::Frame(frame) if frame["type"] == "connected"));
    // No fourth one, however it would come in, and she is told why.
    let refused = Socket::open(&system, &with_token(&ana), GRAPHQL).await;
    assert_eq!(refused.err(), Some(429));
    let refused = Socket::open(&system, &notifications(&ana), None).await;
    assert_eq!(refused.err(), Some(429));
    let request = system.request(
        reqwest::Method::GET,
        format!("{}/v1/events", queries(&system)),
    );
    let refused = system.send(request.bearer_auth(&ana)).await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.body["code"], "too_many_requests",
        "{}",
        refused.body
    );
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("You have 3 open connections"), "{detail}");
    let mut late = Socket::open(&system, "/graphql", GRAPHQL).await.unwrap();
    let payload = json!({"token": ana});
    late.say(&json!({"type": "connection_init", "payload": payload}))
        .await;
    let Came::Close(code, why) = late.next().await else {
        panic!("she was taken in")
    };
    assert_eq!(code, 4429, "{why}");
    assert!(why.contains("You have 3 open connections"), "{why}");
    // Others are not she.
    let others = Socket::graphql(&system, &ben).await.unwrap();
    // One that is closed makes room.
    drop(first);
    let again = async || {
        Socket::open(&system, &with_token(&ana), GRAPHQL)
            .await
            .is_ok()
    };
    until("room for another one", again, |open| *open).await;

    // Two who have not said who they are: no third one, but whoever says so at once gets in.
    let strangers = async || metric(&system, "chat4all_live_refused_total ").await;
    let before = strangers().await;
    let mut two = Vec::new();
    while two.len() < 2 {
        // Those before may still be on their way out.
        two.extend(Socket::open(&system, "/graphql", GRAPHQL).await.ok());
    }
    let third = Socket::open(&system, "/graphql", GRAPHQL).await;
    assert_eq!(third.err(), Some(503));
    assert!(strangers().await > before);
    let known = Socket::open(&system, &with_token(&ben), GRAPHQL).await;
    assert!(known.is_ok(), "{:?}", known.err());
    // One says so now: there is room for the next.
    two[0].introduce(&system.full("cleo")).await;
    assert!(Socket::open(&system, "/graphql", GRAPHQL).await.is_ok());
    drop((others, thin, events, two));
}
