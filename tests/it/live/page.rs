//! The exchange of docs/live.md, frame by frame: what a client is shown to type there is typed here.

use serde_json::Value;

use super::client::{Came, Socket};
use super::of_users;
use crate::journeys::system::{System, text};
use crate::place::read_page;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_exchange_of_the_page_is_answered_as_it_stands_there() {
    let page = read_page("docs/live.md");
    let (_, exchange) = page.split_once("```text exchange\n").unwrap();
    let (exchange, _) = exchange.split_once("```").unwrap();
    let system = System::start();
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let protocol = Some("graphql-transport-ws");
    let mut socket = Socket::open(&system, "/graphql", protocol).await.unwrap();
    let mut answers = 0;
    for line in exchange.lines() {
        let line = line.replace("<token>", &ana);
        let line = line.replace("<conversation>", &group);
        if let Some(frame) = line.strip_prefix("> ") {
            socket.say(&serde_json::from_str(frame).unwrap()).await;
        } else if let Some(frame) = line.strip_prefix("< ") {
            let shown: Value = serde_json::from_str(frame).unwrap();
            let Came::Frame(came) = socket.next().await else {
                panic!("the connection has ended before {shown}");
            };
            assert!(is_like(&came, &shown), "{came} is not like {shown}");
            answers += 1;
        } else {
            let said = line.strip_prefix("somebody writes: ").unwrap();
            let body = text(&group, said);
            system.posted(&ana, "/v1/messages", &body, 202).await;
        }
    }
    assert_eq!(answers, 3);
}

/// Whether what came has everything that the page shows. Texts with a dash stand for others there: cursors and ids.
fn is_like(came: &Value, shown: &Value) -> bool {
    match (came, shown) {
        (Value::Object(came), Value::Object(shown)) => {
            let mut shown = shown.iter();
            shown.all(|(name, shown)| came.get(name).is_some_and(|came| is_like(came, shown)))
        }
        (Value::Array(came), Value::Array(shown)) => {
            let mut pairs = came.iter().zip(shown);
            came.len() == shown.len() && pairs.all(|(came, shown)| is_like(came, shown))
        }
        (Value::String(_), Value::String(shown)) if shown.contains('-') => true,
        (came, shown) => came == shown,
    }
}
