//! Who asks for much and reads nothing keeps neither connections to Postgres nor turns to read the log from others.

use serde_json::json;

use super::client::{Came, Socket, queries};
use super::follower::{Follower, Way, of_mine};
use super::of_users;
use super::slow::metric;
use crate::journeys::system::{System, text};
use crate::journeys::until;

/// As large as texts may be, in bytes too.
const LARGE: &str = "\u{1F40C}";
const CHARS: usize = 32_768;
/// Eight of them are more than a socket holds; so many that a page of them is.
const MESSAGES: usize = 64;
/// More than there are connections to Postgres, and turns to read.
const QUERIES: usize = 12;
const SUBSCRIBERS: usize = 20;
const PROTOCOL: Option<&str> = Some("graphql-transport-ws");

const PAGE: &str = "query ($id: ID!) { conversation(id: $id) { messages(first: 50) { nodes {
    messageId content { ... on TextContent { text } } } } } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_reads_nothing_keeps_no_connection_to_postgres_and_no_turn_from_others() {
    let system = System::with(|command| {
        command.env("CHAT4ALL_POSTGRES__MAX_CONNECTIONS", "2");
    });
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let mut begin = Follower::begin(&system, &ana, Way::Mine).await;
    let from = begin.cursor.clone();
    begin.cut();
    let (large, mut last) = (LARGE.repeat(CHARS), json!(null));
    for _ in 0..MESSAGES {
        let body = text(&group, &large);
        last = system.posted(&ana, "/v1/messages", &body, 202).await["position"].take();
    }

    // One asks for page after page, and takes none of them.
    let mut asks = deaf(&system, &ana).await;
    for number in 0..QUERIES {
        let variables = json!({"id": group, "atLeast": last});
        asks.subscribe(&number.to_string(), PAGE, variables).await;
    }
    // Many want everything since then, and take none of it.
    let wants = of_mine().replace(
        "messageId }",
        "messageId content { ... on TextContent { text } } }",
    );
    let mut wanting = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut socket = deaf(&system, &ana).await;
        socket.subscribe("s", &wants, json!({"after": from})).await;
        wanting.push(socket);
    }
    let all = async || metric(&system, "chat4all_live_subscriptions{about=\"mine\"} ").await;
    let there = |count: &u64| *count == SUBSCRIBERS as u64;
    until("all of them want it", all, there).await;

    // Others read from Postgres, and from the log.
    let page = json!({"id": group});
    for _ in 0..10 {
        let answer = system.graphql(
            &ana,
            "query ($id: ID!) { conversation(id: $id) { title } }",
            page.clone(),
        );
        let answer = answer.await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body["errors"].is_null(), "{}", answer.body);
    }
    let mut other = Follower::begin(&system, &ana, Way::Sse).await;
    other.cut();
    other.cursor.clone_from(&from);
    other.shown.clear();
    while other
        .shown
        .get(&group)
        .is_none_or(|shown| shown.len() < MESSAGES)
    {
        other.next().await;
    }

    // And what was asked for is there when it is read.
    let mut answers = 0;
    while answers < QUERIES {
        let Came::Frame(frame) = asks.next().await else {
            panic!("ended after {answers} answers");
        };
        if frame["type"] == "next" {
            let nodes = &frame["payload"]["data"]["conversation"]["messages"]["nodes"];
            assert_eq!(
                nodes.as_array().map(Vec::len),
                Some(50),
                "{}",
                frame["payload"]["errors"]
            );
            answers += 1;
        }
    }
}

/// A connection with as little room as there can be.
async fn deaf(system: &System, token: &str) -> Socket {
    let socket = Socket::with_buffer(queries(system), "/graphql", PROTOCOL, Some(4_096)).await;
    let mut socket = socket.unwrap();
    socket.introduce(token).await;
    socket
}
