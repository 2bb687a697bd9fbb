//! A long queue behind an account that nobody repaired, and every bridge killed while it waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use super::site::{Extra, PATIENCE, account, by_number, reached};
use crate::guarantees::system::{System, phone};
use crate::support::up::send;

const LANES: usize = 400;
const EACH: usize = 50;
const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_thousand_held_messages_survive_the_bridges_and_arrive_in_order() {
    // A try a second: what is measured is the restart, and not the wait for the next try.
    let soon = ("CHAT4ALL_BRIDGES__PROBE_EVERY_MS", "1000");
    let system = Arc::new(System::with(true, &[soon]).await);
    // Of receipts only those that say that it arrived.
    let steps = ["sent", "read"];
    system
        .fault(json!({"fault": {"kind": "missing_receipts", "steps": steps}}))
        .await;
    let expired = system
        .fault(json!({"fault": {"kind": "token_expired"}}))
        .await;
    let extra = Extra::start(&system, "bridges").await;
    let begun = Instant::now();
    let expected = post(&system).await;
    println!("{} accepted in {:?}", LANES * EACH, begun.elapsed());
    let held = async || {
        let row = account(&system, "whatsapp-main").await;
        (row["state"].clone(), row["waiting"].clone())
    };
    reached("all wait", PATIENCE, held, |seen| {
        *seen == (json!("held"), json!(LANES * EACH))
    })
    .await;
    assert_eq!(system.taken().await.len(), 0);

    let killed = Instant::now();
    extra.signal(Signal::KILL);
    send(system.process("bridges").unwrap(), Signal::KILL);
    system.repair(expired).await;
    let taken =
        async || system.simulator(Method::GET, "stats", None).await["calls"]["accepted"].as_u64();
    // One is the first message of `up`.
    reached(
        "restart: first message handed over",
        PATIENCE,
        taken,
        |taken| *taken > Some(1),
    )
    .await;
    let first = killed.elapsed();
    let all = Some((LANES * EACH + 1) as u64);
    reached("all handed over", PATIENCE, taken, |taken| *taken >= all).await;
    let rate = (LANES * EACH) as f64 / (killed.elapsed() - first).as_secs_f64();
    println!("restart {first:?}; then {rate:.0} messages/s");
    let taken = by_number(&system.taken().await);
    assert_eq!(taken.len(), expected.len());
    for (phone, texts) in &expected {
        assert_eq!(&taken[phone], texts, "what {phone} got");
    }
    all_delivered(&system).await;
}

/// Every client with lanes of its own: what each number is to get.
async fn post(system: &Arc<System>) -> BTreeMap<String, Vec<String>> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let system = Arc::clone(system);
        clients.spawn(async move {
            let mut groups = Vec::new();
            for i in (client..LANES).step_by(CLIENTS) {
                groups.push((phone(i), system.group("ana", &[phone(i)]).await));
            }
            for text in 0..EACH {
                for (_, group) in &groups {
                    system.say("ana", group, &text.to_string()).await;
                }
            }
            let texts: Vec<_> = (0..EACH).map(|text| text.to_string()).collect();
            groups
                .into_iter()
                .map(move |(phone, _)| (phone, texts.clone()))
        });
    }
    let mut all = BTreeMap::new();
    while let Some(client) = clients.join_next().await {
        all.extend(client.unwrap());
    }
    all
}

/// Every row says so: nothing failed. But for the first message of `up`, which was read.
async fn all_delivered(system: &System) {
    let look = async || {
        let url = &system.env["CHAT4ALL_POSTGRES__URL"];
        let mut connection = PgConnection::connect(url).await.unwrap();
        let counts: Vec<(String, i64)> = sqlx::query_as(
            "select status, count(*) from chat4all.deliveries group by status order by status",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        counts
    };
    let all = i64::try_from(LANES * EACH).unwrap();
    let wanted = [("DELIVERED".to_owned(), all), ("READ".to_owned(), 1)];
    reached("all are shown as DELIVERED", PATIENCE, look, |counts| {
        *counts == wanted
    })
    .await;
}
