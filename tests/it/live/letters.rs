//! Dead letters of every kind, made while somebody follows them, and what of them stands on the broker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use reqwest::Method;
use serde_json::{Value, json};

use super::follower::{Follower, Shown};
use super::resume::placed;
use crate::journeys::system::System;

/// A phone that the provider refuses to reach, finally each time.
pub const UNREACHABLE: &str = "4915150000080";
/// A conversation that nobody has started, and its subject: the partition, of 8, is that of the published hash.
const NOWHERE: &str = "00000000-0000-0000-0000-00000000beef";
const BROKEN: &str = "chat.evt.03.conversation.00000000-0000-0000-0000-00000000beef";
/// As the bridges put aside what they do not understand.
const ASIDE: &str = "chat.parked.whatsapp.item.whatsapp-main";
const PACE: Duration = Duration::from_millis(50);

/// From now on each message to [`UNREACHABLE`] fails.
pub async fn nobody_reaches(system: &System) {
    let fault = json!({"to": UNREACHABLE, "fault": {"kind": "error", "code": 131_026}});
    system.control(Method::POST, "faults", fault).await;
}

/// Puts events on the log that cannot be read, and items aside, until it is enough.
pub async fn spoil(system: &System, enough: &AtomicBool) {
    let jetstream = system.jetstream().await;
    while !enough.load(Ordering::Relaxed) {
        tokio::time::sleep(PACE).await;
        put(&jetstream, BROKEN).await;
        put(&jetstream, ASIDE).await;
    }
}

/// At least once: while the broker is away nobody can say.
async fn put(jetstream: &jetstream::Context, subject: &'static str) {
    loop {
        let mut headers = HeaderMap::new();
        headers.insert("reason", "it has no sender");
        let sent = jetstream.publish_with_headers(subject, headers, "{}".into());
        if let Ok(sent) = sent.await
            && sent.await.is_ok()
        {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// What stands on the broker is what they were told of, once they have taken all of it: nothing is missing, nothing twice.
pub async fn all_were_told(system: &System, follower: &mut Follower<'_>) {
    // The last lane is that of what was put aside.
    let began = follower.began.as_deref().unwrap().rsplit('.').next();
    let began: u64 = began.unwrap().parse().unwrap();
    let failed = on_the_log(system).await;
    let aside = put_aside(system, began).await;
    assert_eq!(failed.len(), 2, "what is broken, and failures: {failed:?}");
    assert!(!aside.is_empty(), "nothing was put aside");
    while !follower.has_all(&failed) || follower.parked.last() < aside.last() {
        follower.next().await;
    }
    assert_eq!(follower.shown, failed);
    let told = &follower.parked;
    assert!(told.is_sorted_by(|a, b| a < b), "twice: {told:?}");
    let mut told = told.clone();
    told.retain(|sequence| aside.contains(sequence));
    assert_eq!(told, aside);
}

/// Where each failure and each event that cannot be read stands, by the conversation it is of.
async fn on_the_log(system: &System) -> Shown {
    let mut found = Shown::new();
    for (position, stored) in placed(system).await {
        let conversation = if stored.subject == BROKEN {
            NOWHERE
        } else if has_failed(&stored.body) {
            stored.token(5)
        } else {
            continue;
        };
        let places = found.entry(conversation.to_owned());
        places.or_default().push(position);
    }
    found
}

fn has_failed(body: &Value) -> bool {
    let events = body["events"].as_array();
    events.is_some_and(|events| events.iter().any(|event| event["type"] == "DeliveryFailed"))
}

/// Where what was put aside behind `began` stands, and still does: a receipt that came too early is taken away again, and who
/// was away meanwhile is not told of it.
async fn put_aside(system: &System, began: u64) -> Vec<u64> {
    let jetstream = system.jetstream().await;
    let stream = jetstream.get_stream("PARKED").await.unwrap();
    let mut found = Vec::new();
    for sequence in began + 1..=stream.cached_info().state.last_sequence {
        if stream.get_raw_message(sequence).await.is_ok() {
            found.push(sequence);
        }
    }
    found
}
