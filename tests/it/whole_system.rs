//! The whole system, every role a process of its own, while each of them and the broker are killed with -9: what clients
//! were told (202), what is on the log, what is shown and what the provider was handed are the same messages, in the same
//! order. The provider is handed a message again only if an attempt to do so was in flight at a kill: each repetition has to
//! name that kill.

pub mod in_flight;
mod kills;
mod load;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat4all_nats::Change;
use fastrand::Rng;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use crate::guarantees::system::{Call, Logged, System, log_of};
use crate::support::seed;
use in_flight::InFlight;
use kills::{KILLS_EACH, VICTIMS};
use load::Load;

const MESSAGES: usize = 5_000;
const CONVERSATIONS: usize = 200;

/// Messages by conversation, in their order.
pub type Messages = BTreeMap<String, Vec<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_accepted_is_on_the_log_and_shown_whatever_is_killed() {
    let mut rng = Rng::with_seed(seed("whole system"));
    let begun = Instant::now();
    let system = Arc::new(System::split().await);
    // Long enough for a kill to find calls that are not answered yet.
    let latency = json!({"fault": {"kind": "latency", "ms": [30, 200]}});
    system.fault(latency).await;

    let load = Load::start(&system).await;
    let kills = kills::all(&system, &load, &mut rng).await;
    println!("killed enough after {:?}", begun.elapsed());
    let told = load.finish(MESSAGES).await;
    println!("all accepted after {:?}", begun.elapsed());
    for kill in &kills {
        println!("{kill}");
    }
    for victim in VICTIMS {
        let hits = kills.iter().filter(|kill| kill.victim == victim);
        let hits = hits.filter(|kill| kill.hit > 0).count();
        assert!(
            hits >= KILLS_EACH,
            "only {hits} kills of {victim} hit something in flight"
        );
    }
    let accepted = told.messages;
    assert!(
        total(&accepted) >= MESSAGES && accepted.len() >= CONVERSATIONS,
        "{} in {} conversations",
        total(&accepted),
        accepted.len()
    );

    all_read(&system, total(&accepted)).await;
    println!("all read after {:?}", begun.elapsed());
    let log = log_of(&system.env).await;
    let first = system.first_conversation().await;
    let on_log = without(&first, on_the_log(&log));
    let shown = without(&first, shown(&system).await);
    let calls = system.taken().await;
    println!(
        "{} accepted, {} on the log, {} shown, {} calls",
        total(&accepted),
        total(&on_log),
        total(&shown),
        calls.len()
    );
    compare("the log", &accepted, &on_log);
    compare("the read models", &accepted, &shown);
    in_flight::nobody_overtaken(&calls);
    let (firsts, repeats) = in_flight::apart(&calls);
    compare("the provider", &accepted, &handed_over(&firsts));
    for call in &calls {
        let said = told.texts.get(&call.reference_of().message);
        assert_eq!(said, Some(&call.text), "{} got another text", call.to);
    }

    // Only a bridge that dies, or a broker that does not take its outcome, can make it call again.
    let explains = |victim| matches!(victim, "bridges" | "nats-server");
    let in_flight: Vec<_> = kills
        .iter()
        .filter(|kill| explains(kill.victim))
        .map(|kill| InFlight::at(&log, kill.dead_at))
        .collect();
    in_flight::all_explained(&repeats, &in_flight);

    // And the public API shows the same, page by page.
    let (conversation, expected) = accepted.iter().next().unwrap();
    assert_eq!(&pages(&system, conversation).await, expected);
}

pub fn total(messages: &Messages) -> usize {
    messages.values().map(Vec::len).sum()
}

/// Missing, extra and order are three questions.
pub fn compare(place: &str, told: &Messages, found: &Messages) {
    let ids = |all: &Messages| all.values().flatten().cloned().collect::<BTreeSet<_>>();
    let (told_ids, found_ids) = (ids(told), ids(found));
    let missing: Vec<_> = told_ids.difference(&found_ids).collect();
    assert!(missing.is_empty(), "{place} misses {missing:?}");
    let extra: Vec<_> = found_ids.difference(&told_ids).collect();
    assert!(
        extra.is_empty(),
        "{place} has {extra:?}, which nobody was told of"
    );
    assert_eq!(total(found), found_ids.len(), "{place} has a message twice");
    for (conversation, order) in told {
        let found = found.get(conversation);
        assert_eq!(found, Some(order), "{place}: the order in {conversation}");
    }
}

/// Every message on the log.
pub fn on_the_log(log: &[Logged]) -> Messages {
    let mut found = Messages::new();
    for logged in log {
        if let Change::Message(id, _) = &logged.change {
            let conversation = found.entry(id.conversation.to_string()).or_default();
            conversation.push(id.message.to_string());
        }
    }
    found
}

/// What `up` itself sends when it starts is nobody's business.
pub fn without(first: &str, mut messages: Messages) -> Messages {
    let removed = messages.remove(first);
    assert_eq!(removed.map_or(0, |messages| messages.len()), 1);
    messages
}

/// The rows.
pub async fn shown(system: &System) -> Messages {
    let mut connection = PgConnection::connect(&system.env["CHAT4ALL_POSTGRES__URL"])
        .await
        .unwrap();
    let rows: Vec<(uuid::Uuid, uuid::Uuid)> = sqlx::query_as(
        "select conversation_id, message_id from chat4all.messages order by conversation_id, sequence",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut found = Messages::new();
    for (conversation, message) in rows {
        let conversation = found.entry(conversation.to_string()).or_default();
        conversation.push(message.to_string());
    }
    found
}

/// Waits until every delivery has been read: one for each message, and the one that `up` itself has sent.
pub async fn all_read(system: &System, told: usize) {
    let deadline = Instant::now() + Duration::from_secs(240);
    loop {
        let mut connection = PgConnection::connect(&system.env["CHAT4ALL_POSTGRES__URL"])
            .await
            .unwrap();
        let counts: Vec<(String, i64)> = sqlx::query_as(
            "select status, count(*) from chat4all.deliveries group by status order by status",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let all = i64::try_from(told + 1).unwrap();
        if counts == [("READ".to_owned(), all)] {
            return;
        }
        let waits = Instant::now() < deadline;
        assert!(waits, "after four minutes: {counts:?} of {all}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// What the provider was handed, by the conversation it came from: one recipient each.
pub fn handed_over(calls: &[Call]) -> Messages {
    let mut found = Messages::new();
    for call in calls {
        let of = call.reference_of();
        found.entry(of.conversation).or_default().push(of.message);
    }
    found
}

/// The messages of a conversation as a client pages through them.
async fn pages(system: &System, conversation: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/conversations/{conversation}/messages?first=7{after}");
        let page = system.rest(load::USER, &path, None).await;
        let messages = page["messages"].as_array().unwrap();
        let ids = messages
            .iter()
            .map(|message| message["message_id"].as_str());
        all.extend(ids.map(|id| id.unwrap().to_owned()));
        let info = &page["page_info"];
        if info["has_next_page"] != true {
            return all;
        }
        after = format!("&after={}", info["end_cursor"].as_str().unwrap());
    }
}
