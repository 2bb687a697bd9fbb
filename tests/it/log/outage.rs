//! The broker is away, or hangs: what a caller is told, and what is on the log afterwards.

use std::time::Duration;

use chat4all_nats::Log;
use chat4all_nats::execute::{Assume, Context, Error};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::deliveries::{attempt, id, owners, store};
use crate::support::log::{context, one_node};

async fn until_connected(log: &Log, wanted: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while log.is_connected() != wanted {
        assert!(
            Instant::now() < deadline,
            "connected: {}",
            log.is_connected()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn with_the_broker_away_a_caller_hears_so_in_time_and_nothing_of_it_is_stored_later() {
    let mut node = one_node().await;
    let store = store(&node.log);
    store
        .execute(&id(1), attempt(0, 1, "before"), context(10))
        .await
        .unwrap();
    node.nats.kill().await;
    until_connected(&node.log, false).await;

    // Known, unknown and assumed to be new: each takes another way to the broker.
    let absent = |context| Context {
        assume: Assume::Absent,
        ..context
    };
    let cases = [
        (id(1), attempt(0, 2, "known"), context(2)),
        (id(2), attempt(0, 1, "unknown"), context(2)),
        (id(3), attempt(0, 1, "new"), absent(context(2))),
        (id(1), attempt(0, 7, "refused by what is known"), context(2)),
    ];
    for (id, command, context) in cases {
        let what = format!("{command:?}");
        let deadline = context.deadline;
        let answer = store
            .execute(&id, command, context)
            .await
            .map(|executed| executed.revision);
        assert_eq!(answer, Err(Error::Unavailable), "{what}");
        assert!(
            Instant::now() <= deadline,
            "{what}: {:?} late",
            deadline.elapsed()
        );
    }

    node.nats.restart().await.unwrap();
    until_connected(&node.log, true).await;
    // Behind this append on the same connection nothing of the others can come any more.
    store
        .execute(&id(1), attempt(0, 2, "after"), context(20))
        .await
        .unwrap();
    let names: Vec<_> = owners(&node.log, &id(1))
        .await
        .into_iter()
        .map(|(_, owner)| owner)
        .collect();
    assert_eq!(names, ["before", "after"]);
    for id in [id(2), id(3)] {
        assert_eq!(owners(&node.log, &id).await, vec![]);
    }
}

#[tokio::test]
async fn a_command_that_can_wait_is_carried_out_when_the_broker_is_back() {
    let mut node = one_node().await;
    let store = store(&node.log);
    store
        .execute(&id(1), attempt(0, 1, "before"), context(10))
        .await
        .unwrap();
    node.nats.kill().await;
    until_connected(&node.log, false).await;
    let mut patient = JoinSet::new();
    patient.spawn({
        let store = store.clone();
        async move {
            store
                .execute(&id(1), attempt(0, 2, "patient"), context(30))
                .await
        }
    });
    node.nats.restart().await.unwrap();
    patient.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(owners(&node.log, &id(1)).await.len(), 2);
}

#[tokio::test]
async fn with_the_broker_hung_the_answer_is_unknown_and_repeating_finds_out() {
    let node = one_node().await;
    let store = store(&node.log);
    store
        .execute(&id(1), attempt(0, 1, "before"), context(10))
        .await
        .unwrap();
    node.nats.suspend().await;

    let deadline = Instant::now() + Duration::from_secs(2);
    let hurried = Context {
        deadline,
        ..context(2)
    };
    let answer = store.execute(&id(1), attempt(0, 2, "hung"), hurried).await;
    assert_eq!(
        answer.map(|executed| executed.revision),
        Err(Error::Unknown)
    );
    let late = deadline.elapsed();
    assert!(late < Duration::from_secs(1), "{late:?} after the deadline");
    assert!(
        store.cached(&id(1)).is_none(),
        "an ambiguous append leaves no state behind"
    );

    node.nats.resume();
    // Whoever asks again with what they had in mind: it is there, or is done now. Once.
    let again = store
        .execute(&id(1), attempt(0, 2, "hung"), context(20))
        .await;
    let rejected = matches!(again, Err(Error::Rejected(_)));
    assert!(again.is_ok() || rejected, "{:?}", again.err());
    store
        .execute(&id(1), attempt(0, 3, "after"), context(20))
        .await
        .unwrap();
    let names: Vec<_> = owners(&node.log, &id(1))
        .await
        .into_iter()
        .map(|(_, owner)| owner)
        .collect();
    assert_eq!(names, ["before", "hung", "after"]);
}
