//! Connections: who is taken in, for how long, and how they are told; and that a token in a URL is told to nobody.

use std::time::Duration;

use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::clock;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::client::{Came, Events, Socket, queries};
use super::follower::{of_conversation, of_mine};
use super::slow::metric;
use super::{letters, user};
use crate::journeys::system::{System, text};
use crate::journeys::until;
use crate::support::up::send;

const PHONE: &str = "4915150000079";
const GRAPHQL: Option<&str> = Some("graphql-transport-ws");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_lasts_as_long_as_its_token_and_ends_with_a_reason() {
    // Everything that anybody would ever write to a log.
    let system = System::with(|command| {
        command.env("CHAT4ALL_TELEMETRY__FILTER", "trace");
    });
    let ana = system.full("ana");
    let group = system.group(&ana, &[PHONE]).await;

    // Who is not taken in.
    let refused = async |path: &str| Socket::open(&system, path, GRAPHQL).await.err();
    assert_eq!(refused("/graphql?token=nonsense").await, Some(401));
    assert_eq!(refused("/v1/notifications").await, Some(401));
    assert_eq!(refused("/v1/notifications?token=nonsense").await, Some(401));
    let nobody = system.token("nobody", &[]);
    assert_eq!(
        refused(&format!("/v1/notifications?token={nobody}")).await,
        Some(403)
    );
    let mut strange = Socket::open(&system, "/graphql", None).await;
    ends(strange.as_mut().ok(), 4406, "graphql-transport-ws").await;

    // Who does not speak as agreed.
    let silent = async {
        let mut silent = Socket::open(&system, "/graphql", GRAPHQL).await;
        ends(silent.as_mut().ok(), 4408, "timeout").await;
    };
    let spoken = async {
        for (first, code) in [
            (
                json!({"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}),
                4401,
            ),
            (json!({"type": "connection_init"}), 4403),
            (
                json!({"type": "connection_init", "payload": {"token": "nonsense"}}),
                4403,
            ),
            (json!({"type": "nonsense"}), 4400),
        ] {
            let mut socket = Socket::open(&system, "/graphql", GRAPHQL).await.unwrap();
            socket.say(&first).await;
            ends(Some(&mut socket), code, "").await;
        }
        let mut twice = Socket::graphql(&system, &ana).await.unwrap();
        twice.say(&json!({"type": "connection_init"})).await;
        ends(Some(&mut twice), 4429, "Too many initialisation requests").await;
        let mut taken = Socket::graphql(&system, &ana).await.unwrap();
        taken.subscribe("1", &of_mine(), json!({})).await;
        taken.update().await;
        taken.subscribe("1", &of_mine(), json!({})).await;
        ends(Some(&mut taken), 4409, "1 already exists").await;
    };
    futures::join!(silent, spoken);

    // A token that expires in open connections.
    let short = short_token(&system);
    let mut subscribed = Socket::graphql(&system, &short).await.unwrap();
    subscribed.subscribe("1", &of_mine(), json!({})).await;
    subscribed.update().await;
    let path = format!("/v1/notifications?token={short}");
    let mut notified = Socket::open(&system, &path, None).await.unwrap();
    assert!(matches!(notified.next().await, Came::Frame(frame) if frame["type"] == "connected"));
    let mut events = Events::open(&system, &short, "/v1/events", None)
        .await
        .unwrap();
    ends(Some(&mut subscribed), 4403, "expired").await;
    ends(Some(&mut notified), 4403, "expired").await;
    assert!(events.next().await.unwrap().id.is_some());
    let end = events.next().await.unwrap();
    assert_eq!(
        (end.name.as_deref(), &end.data["code"]),
        (Some("end"), &json!("unauthorized"))
    );
    assert_eq!(events.next().await, None);

    operations(&system, &ana, &group).await;
    thin_clients(&system, &ana, &group).await;
    cursors(&system, &ana, &group).await;

    // Nobody is left, and everybody is told when the process stops.
    let open = async || metric(&system, "chat4all_live_subscriptions{about=\"mine\"} ").await;
    until("the end of all subscriptions", open, |open| *open == 0).await;
    let path = format!("/v1/notifications?token={ana}");
    let mut thin = Socket::open(&system, &path, None).await.unwrap();
    assert!(matches!(thin.next().await, Came::Frame(_)));
    let mut last = Socket::graphql(&system, &ana).await.unwrap();
    let mut events = Events::open(&system, &ana, "/v1/events", None)
        .await
        .unwrap();
    assert!(events.next().await.unwrap().id.is_some());
    send(system.up.process("all").unwrap(), Signal::TERM);
    ends(Some(&mut last), 1001, "last cursor").await;
    ends(Some(&mut thin), 1001, "").await;
    assert_eq!(events.next().await, None);

    // Whatever was logged, tokens were not.
    let log = std::fs::read_to_string(system.directory().join("log/all.log")).unwrap();
    assert!(
        log.contains("/v1/notifications"),
        "this looks at the wrong place"
    );
    for token in [&ana, &short, &nobody] {
        let (_, secret) = token.rsplit_once('.').unwrap();
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

/// Several operations of one connection, and queries among them.
async fn operations(system: &System, ana: &str, group: &str) {
    let mut socket = Socket::graphql(system, ana).await.unwrap();
    socket
        .say(&json!({"type": "ping", "payload": {"n": 1}}))
        .await;
    assert_eq!(
        socket.next().await,
        Came::Frame(json!({"type": "pong", "payload": {"n": 1}}))
    );
    let query = "query ($id: ID!) { conversation(id: $id) { conversationId } }";
    socket.subscribe("q", query, json!({"id": group})).await;
    assert_eq!(socket.update().await["conversationId"], json!(group));
    assert_eq!(
        socket.next().await,
        Came::Frame(json!({"type": "complete", "id": "q"}))
    );
    socket
        .subscribe("bad", "subscription { nonsense }", json!({}))
        .await;
    let Came::Frame(refused) = socket.next().await else {
        panic!("ended")
    };
    assert_eq!(
        refused["payload"][0]["extensions"]["code"], "validation",
        "{refused}"
    );
    // What is completed says nothing more, and makes room.
    for round in 0..150 {
        let id = round.to_string();
        socket
            .subscribe(&id, &of_conversation(), json!({"id": group}))
            .await;
        socket.update().await;
        socket.say(&json!({"type": "complete", "id": id})).await;
    }
    for round in 0..32 {
        socket
            .subscribe(&round.to_string(), &of_conversation(), json!({"id": group}))
            .await;
        socket.update().await;
    }
    socket.subscribe("one more", &of_mine(), json!({})).await;
    let Came::Frame(refused) = socket.next().await else {
        panic!("ended")
    };
    assert_eq!(
        refused["payload"][0]["extensions"]["code"], "too_many_requests",
        "{refused}"
    );
}

/// What a thin client is told.
async fn thin_clients(system: &System, ana: &str, group: &str) {
    let path = format!("/v1/notifications?token={ana}");
    let mut thin = Socket::open(system, &path, None).await.unwrap();
    let Came::Frame(connected) = thin.next().await else {
        panic!("ended")
    };
    assert_eq!(
        (&connected["type"], &connected["user_id"]),
        (&json!("connected"), &json!(user("ana")))
    );
    thin.say(&json!({"type": "ping"})).await;
    assert_eq!(thin.next().await, Came::Frame(json!({"type": "pong"})));
    thin.say(&json!({"type": "pong"})).await;
    let said = system
        .posted(ana, "/v1/messages", &text(group, "thin"), 202)
        .await;
    let mut frames = Vec::new();
    while frames.len() < 4 {
        let Came::Frame(frame) = thin.next().await else {
            panic!("ended")
        };
        assert_eq!(frame["message_id"], said["message_id"]);
        assert_eq!(frame["conversation_id"], json!(group));
        frames.push((
            frame["type"].clone(),
            frame["status"].clone(),
            frame["content"]["text"].clone(),
        ));
    }
    let status = |status: &str| (json!("status"), json!(status), Value::Null);
    assert_eq!(
        frames[0],
        (json!("new_message"), Value::Null, json!("thin"))
    );
    assert_eq!(
        frames[1..],
        [status("SENT"), status("DELIVERED"), status("READ")]
    );

    // What fails says what kind of failure it is.
    letters::nobody_reaches(system).await;
    let away = system.group(ana, &[letters::UNREACHABLE]).await;
    let said = system
        .posted(ana, "/v1/messages", &text(&away, "nobody"), 202)
        .await;
    let failed = loop {
        let Came::Frame(frame) = thin.next().await else {
            panic!("ended")
        };
        assert_eq!(frame["message_id"], said["message_id"]);
        if frame["status"] == "FAILED" {
            break frame;
        }
    };
    assert_eq!(failed["failure_class"], "PERMANENT", "{failed}");
    thin.say(&json!({"type": "nonsense"})).await;
    ends(Some(&mut thin), 4400, "").await;
}

/// Cursors that cannot be resumed from.
async fn cursors(system: &System, ana: &str, group: &str) {
    let path = format!("/v1/conversations/{group}/events");
    let mut here = Events::open(system, ana, &path, None).await.unwrap();
    let here = here.next().await.unwrap().id.unwrap();
    let (partition, _) = here.split_once('-').unwrap();
    let ahead = format!("{partition}-99999999");
    for (path, cursor, status) in [
        (path.as_str(), ahead.as_str(), 410),
        (&path, "nonsense", 422),
        ("/v1/events", &here, 422),
        ("/v1/events", "1.2.3", 422),
        ("/v1/events", "0.0.0.0.0.0.0.99999999", 410),
    ] {
        let refused = Events::open(system, ana, path, Some(cursor)).await.err();
        assert_eq!(refused, Some(status), "{path} behind {cursor}");
    }
    // As a browser's `EventSource` comes, which sets no headers; a header that is there counts.
    let by_url = |token: &str| {
        let url = format!("{}/v1/events?token={token}", queries(system));
        system.request(Method::GET, url)
    };
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status();
    assert_eq!(status(by_url(ana)).await, 200);
    assert_eq!(status(by_url("nonsense")).await, 401);
    assert_eq!(status(by_url(ana).bearer_auth("nonsense")).await, 401);
    let nobody = format!("{}/v1/events", queries(system));
    assert_eq!(status(system.request(Method::GET, nobody)).await, 401);

    // It is said where it was read.
    let events = |query: &str| {
        let url = format!("{}/v1/events{query}", queries(system));
        system.request(Method::GET, url).bearer_auth(ana)
    };
    let header = events("?after=1.2.3").header("Last-Event-ID", "nonsense");
    for (request, pointer) in [
        (events("?after=nonsense"), "/after"),
        (header, "/Last-Event-ID"),
    ] {
        let refused = system.send(request).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        let error = &refused.body["errors"][0];
        assert_eq!(error["pointer"], pointer, "{error}");
    }
}

#[track_caller]
fn ends(socket: Option<&mut Socket>, code: u16, why: &str) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let socket = socket.unwrap_or_else(|| panic!("{caller}: not taken in"));
    async move {
        loop {
            match socket.next().await {
                Came::Close(said, reason) => {
                    assert_eq!(said, code, "{caller}: {reason}");
                    assert!(reason.contains(why), "{caller}: {reason}");
                    return;
                }
                Came::Frame(_) => {}
                Came::Gone => panic!("{caller}: gone without a word"),
            }
        }
    }
}

/// One that counts for three seconds.
pub fn short_token(system: &System) -> String {
    let grant = Grant {
        sub: "ana",
        scopes: Scope::ALL,
        ttl: Duration::from_secs(3),
    };
    let secret = system.env["CHAT4ALL_AUTH__HS256_SECRET"].clone().into();
    mint(&secret, "chat4all", None, &grant, clock::now())
}
