//! A full log: accepting stops first, so that what became of things still fits.

use chat4all_domain::{Delivery, Revision};
use chat4all_nats::execute::{Assume, Context, Error, Purpose};
use chat4all_nats::streams::Layout;
use chat4all_nats::{Log, Store, fullness, streams};

use crate::support::deliveries::{self, attempt, id, owners, store};
use crate::support::log::{EmptyNode, client, context, empty_node, layout};

/// Each of the eight streams holds this much.
const STREAM_BYTES: u64 = 200_000;

/// As a message is taken in: most of them are new.
fn accept() -> Context {
    Context {
        purpose: Purpose::Accept,
        assume: Assume::Absent,
        ..context(10)
    }
}

/// Writes attempt after attempt of delivery `n` until somebody says no; that word, and what was acknowledged.
async fn fill(
    store: &Store<Delivery>,
    n: u16,
    purpose: Purpose,
) -> (
    Error<chat4all_domain::delivery::Rejection>,
    Vec<(Revision, String)>,
) {
    let mut stored = Vec::new();
    for number in 1.. {
        let owner = format!("{n}-{number}-{}", "x".repeat(1_000));
        let context = Context {
            purpose,
            ..context(10)
        };
        // What is stored elsewhere is known within a second; here, at once.
        fullness::measure(store.log()).await;
        match store
            .execute(&id(1), attempt(n, number, &owner), context)
            .await
        {
            Ok(executed) => stored.push((executed.revision, owner)),
            Err(error) => return (error, stored),
        }
    }
    unreachable!("a log of {STREAM_BYTES} bytes takes what is written for ever")
}

#[tokio::test]
async fn accepting_stops_first_outcomes_go_on_and_more_room_helps() {
    let node = one_node_of(STREAM_BYTES * 8).await;
    let (log, store) = (&node.1, store(&node.1));
    let partition = log.partition_of(&id(1));
    let bytes = async || {
        let info = log.stream(partition).get_info().await.unwrap();
        info.state.bytes
    };

    let (why, mut acknowledged) = fill(&store, 1, Purpose::Accept).await;
    assert_eq!(why, Error::Full);
    let full_to = bytes().await * 100 / STREAM_BYTES;
    assert!(
        (95..97).contains(&full_to),
        "accepting stopped at {full_to} %"
    );
    assert!(!log.fullness().accepts(partition));
    assert!(log.fullness().fullest_percent() >= 95);

    // Who repeats what is stored takes nothing in, even by a process that does not know it yet.
    let (first, repeated) = (acknowledged[0].clone(), acknowledged.len());
    let other = deliveries::store(log);
    let again = other
        .execute(&id(1), attempt(1, 1, &first.1), accept())
        .await;
    assert!(
        matches!(again, Err(Error::Rejected(_))),
        "{:?}",
        again.map(|e| e.revision)
    );

    let (why, outcomes) = fill(&store, 2, Purpose::Outcome).await;
    assert_eq!(why, Error::Full);
    assert!(
        outcomes.len() >= 3,
        "only {} outcomes fitted",
        outcomes.len()
    );
    assert!(bytes().await <= STREAM_BYTES);
    acknowledged.extend(outcomes);
    assert_eq!(
        owners(log, &id(1)).await,
        acknowledged,
        "{repeated} were accepted"
    );

    let stream = log
        .jetstream()
        .get_stream(streams::name(partition))
        .await
        .unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes *= 2;
    log.jetstream().update_stream(&config).await.unwrap();
    fullness::measure(log).await;
    assert!(log.fullness().accepts(partition));
    let more = store
        .execute(&id(1), attempt(3, 1, "more"), accept())
        .await
        .unwrap();
    acknowledged.push((more.revision, "more".to_owned()));
    assert_eq!(owners(log, &id(1)).await, acknowledged);
}

/// A node whose log holds `max_bytes` in all.
async fn one_node_of(max_bytes: u64) -> (EmptyNode, Log) {
    let node = empty_node().await;
    let layout = Layout {
        max_bytes,
        ..layout(1)
    };
    let client = client(&node.nats.url(), "full").await;
    let (log, _) = Log::provision(client, &layout).await.unwrap();
    (node, log)
}
