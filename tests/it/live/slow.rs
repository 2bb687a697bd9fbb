//! Who does not take what there is, is told to resume, and finds everything; others go on meanwhile.

use serde_json::{Value, json};

use super::client::{Came, Event, Events, Socket, queries};
use super::follower::{Follower, Way, of_mine};
use super::of_users;
use crate::journeys::system::{System, text};
use crate::journeys::until;

/// As large as texts may be, in bytes too: what waits for a slow client is more than all buffers hold.
pub const LARGE: &str = "\u{1F40C}";
pub const CHARS: usize = 32_768;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_client_is_told_to_resume_while_others_go_on() {
    let system = System::start();
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let mut other = Follower::begin(&system, &ana, Way::Conversation(&group)).await;
    let path = format!("/v1/notifications?token={ana}");
    let mut thin = Socket::open(&system, &path, None).await.unwrap();
    assert!(matches!(thin.next().await, Came::Frame(frame) if frame["type"] == "connected"));
    let protocol = Some("graphql-transport-ws");
    let mut slow = Socket::with_buffer(queries(&system), "/graphql", protocol, Some(4_096))
        .await
        .unwrap();
    slow.introduce(&ana).await;
    slow.subscribe("s", &with_texts(), json!({})).await;
    let begin = slow.update().await["cursor"].clone();

    // They write as long as nobody is overtaken: only the one who does not read can be.
    let (large, mut written) = (LARGE.repeat(CHARS), 0);
    while resyncs(&system).await == 0 {
        let answer = system
            .post(&ana, "/v1/messages", &text(&group, &large))
            .await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        written += 1;
        assert!(written < 300, "nobody was overtaken");
        // The others take what there is.
        assert!(matches!(thin.next().await, Came::Frame(frame) if frame["type"] == "new_message"));
        other.next().await;
    }
    assert_eq!(other.shown[&group].len(), written);
    assert_eq!(other.resyncs, 0);

    // It reads again: what had left, then where to resume.
    let (mut shown, mut last) = (0, begin);
    let refused = loop {
        let Came::Frame(frame) = slow.next().await else {
            panic!("ended after {shown} of {written}");
        };
        if frame["type"] == "error" {
            break frame;
        }
        last = frame["payload"]["data"]["myEvents"]["cursor"].clone();
        shown += 1;
    };
    let said = &refused["payload"][0]["extensions"];
    assert_eq!((&said["code"], &said["cursor"]), (&json!("resync"), &last));
    assert!(shown < written, "it was not behind: {shown} of {written}");
    // The connection is as good as before.
    slow.subscribe("s", &with_texts(), json!({"after": last}))
        .await;
    while shown < written {
        let update = slow.update().await;
        shown += update["events"].as_array().unwrap().len();
    }
    let here = slow.update().await;
    assert_eq!(here["events"], json!([]), "{here}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_thin_client_is_told_that_it_has_missed_something_and_may_come_back() {
    let system = System::start();
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let path = format!("/v1/notifications?token={ana}");
    let slow = Socket::with_buffer(queries(&system), &path, None, Some(4_096)).await;
    let mut slow = slow.unwrap();
    assert!(matches!(slow.next().await, Came::Frame(frame) if frame["type"] == "connected"));
    let (large, mut written) = (LARGE.repeat(CHARS), 0);
    while resyncs(&system).await == 0 {
        let message = text(&group, &large);
        system.posted(&ana, "/v1/messages", &message, 202).await;
        written += 1;
        assert!(written < 300, "it was not overtaken");
    }

    // It reads again: what had left, then that this is not all, and the end.
    let mut shown = 0;
    loop {
        let Came::Frame(frame) = slow.next().await else {
            panic!("ended without a word after {shown} of {written}");
        };
        match frame["type"].as_str() {
            Some("new_message") => shown += 1,
            Some("ping") => {}
            _ => {
                assert_eq!(frame, json!({"type": "resync"}));
                break;
            }
        }
    }
    assert!(shown < written, "it was not behind: {shown} of {written}");
    let Came::Close(code, why) = slow.next().await else {
        panic!("it goes on");
    };
    assert_eq!(code, 1001, "{why}");
    assert!(why.contains("load what is new and come back"), "{why}");

    // What it has missed it has to load; what comes now it is told.
    let mut again = Socket::open(&system, &path, None).await.unwrap();
    assert!(matches!(again.next().await, Came::Frame(frame) if frame["type"] == "connected"));
    let message = text(&group, "hello again");
    let said = system.posted(&ana, "/v1/messages", &message, 202).await;
    let Came::Frame(frame) = again.next().await else {
        panic!("ended");
    };
    assert_eq!(frame["message_id"], said["message_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_reader_of_server_sent_events_is_told_where_to_resume_and_gets_everything_once() {
    let system = System::start();
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let mut slow = Events::with_buffer(&system, &ana, "/v1/events", 4_096).await;
    let mut last = slow.next().await.unwrap().id.unwrap();
    let post = async |said: &str| {
        let message = text(&group, said);
        let said = system.posted(&ana, "/v1/messages", &message, 202).await;
        said["position"].clone()
    };
    let (large, mut written) = (LARGE.repeat(CHARS), Vec::new());
    while resyncs(&system).await == 0 {
        written.push(post(&large).await);
        assert!(written.len() < 300, "it was not overtaken");
    }

    // It reads again: what had left, then where to resume, and the end.
    let mut shown = Vec::new();
    let end = loop {
        let event = slow.next().await.expect("the end says why");
        if event.name.as_deref() == Some("end") {
            break event;
        }
        shown.extend(message_of(&event));
        last = event.id.unwrap();
    };
    assert_eq!(end.data["code"], "resync", "{end:?}");
    assert_eq!(end.data["cursor"], last, "the last thing it was given");
    assert_eq!(slow.next().await, None);
    assert!(shown.len() < written.len(), "it was not behind");

    // It comes back as browsers do: with the last id.
    let mut again = Events::open(&system, &ana, "/v1/events", Some(&last))
        .await
        .unwrap();
    written.push(post("the last one").await);
    while shown.last() != written.last() {
        shown.extend(message_of(&again.next().await.expect("it goes on")));
    }
    assert_eq!(shown, written);
}

/// Where the message stands that an event is about, if it is about a new one.
fn message_of(event: &Event) -> Option<Value> {
    let is_new = event.data["events"][0]["type"] == "new_message";
    is_new.then(|| event.data["position"].clone())
}

/// What comes is not of interest, how much is: texts are.
pub fn with_texts() -> String {
    of_mine().replace(
        "messageId }",
        "messageId content { ... on TextContent { text } } }",
    )
}

async fn resyncs(system: &System) -> u64 {
    metric(system, "chat4all_live_resyncs_total ").await
}

/// A number on the page of metrics.
pub async fn metric(system: &System, name: &str) -> u64 {
    let page = async || {
        let url = format!("{}/metrics", system.env["CHAT4ALL_QUERY_URL"]);
        let request = system.request(reqwest::Method::GET, url);
        system.send(request).await.body
    };
    let page = until("the metrics", page, Value::is_string).await;
    let mut lines = page.as_str().unwrap().lines();
    let value = lines.find_map(|line| line.strip_prefix(name));
    value
        .unwrap_or_else(|| panic!("no {name}in {page}"))
        .parse()
        .unwrap()
}
