//! The log behind the interface of `cqrs-es`.

use std::collections::HashMap;

use chat4all_domain::delivery::{self, Operation};
use chat4all_domain::{AggregateId, Delivery};
use chat4all_nats::event_store::LogEventStore;
use cqrs_es::{AggregateContext, AggregateError, CqrsFramework, EventStore};

use crate::support::deliveries::{at, attempt, id, owners, store};
use crate::support::log::{context, one_node};

#[tokio::test]
async fn the_framework_writes_and_reads_the_same_log() {
    let node = one_node().await;
    let (id, path) = (id(1), id(1).path());
    let framework =
        CqrsFramework::<Delivery, _>::new(LogEventStore::new(node.log.clone(), at), vec![], ());
    for number in 1..=3 {
        framework
            .execute(&path, attempt(0, number, "framework"))
            .await
            .unwrap();
    }
    // Our own way of writing goes on where it stopped, and the other way round.
    let ours = store(&node.log);
    ours.execute(&id, attempt(0, 4, "ours"), context(10))
        .await
        .unwrap();
    framework
        .execute(&path, attempt(0, 5, "framework"))
        .await
        .unwrap();
    assert_eq!(owners(&node.log, &id).await.len(), 5);

    let refused = framework.execute(&path, attempt(0, 5, "late")).await;
    let says = delivery::Rejection::NotNext {
        n: 0,
        last: 5,
        asked: 5,
    };
    assert!(
        matches!(&refused, Err(AggregateError::UserError(why)) if *why == says),
        "{refused:?}"
    );
    // Nothing to say is fine too.
    let silent = delivery::Command::Defer {
        n: 0,
        op: Operation::Send,
        generation: 7,
        attempt: 5,
        until: at(),
        class: delivery::FailureClass::Transient,
        reason: delivery::Reason::ChannelFailure,
    };
    framework.execute(&path, silent).await.unwrap();

    let events = LogEventStore::new(node.log.clone(), at);
    let all = EventStore::<Delivery>::load_events(&events, &path)
        .await
        .unwrap();
    let numbers: Vec<_> = all.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert!(all.iter().all(|event| event.aggregate_id == path));
}

#[tokio::test]
async fn of_two_who_loaded_the_same_only_one_commits() {
    let node = one_node().await;
    let (id, path) = (id(1), id(1).path());
    let events = LogEventStore::new(node.log.clone(), at);
    let load = || EventStore::<Delivery>::load_aggregate(&events, &path);
    let (mut one, mut two) = (load().await.unwrap(), load().await.unwrap());
    let decided = |context: &mut _, owner: &str| {
        let context: &mut <LogEventStore as EventStore<Delivery>>::AC = context;
        context.aggregate().decide(&attempt(0, 1, owner)).unwrap()
    };
    let (first, second) = (decided(&mut one, "one"), decided(&mut two, "two"));
    let committed = events.commit(first, one, HashMap::new()).await.unwrap();
    assert_eq!((committed.len(), committed[0].sequence), (1, 1));
    let conflict = events.commit(second, two, HashMap::new()).await;
    assert!(
        matches!(conflict, Err(AggregateError::AggregateConflict)),
        "{conflict:?}"
    );
    // Nothing to commit is no conflict, however old it is.
    let old = load().await.unwrap();
    store(&node.log)
        .execute(&id, attempt(0, 2, "ours"), context(10))
        .await
        .unwrap();
    let nothing = events.commit(vec![], old, HashMap::new()).await.unwrap();
    assert!(nothing.is_empty());
    let names: Vec<_> = owners(&node.log, &id)
        .await
        .into_iter()
        .map(|(_, owner)| owner)
        .collect();
    assert_eq!(names, ["one", "ours"]);

    let nobody = EventStore::<Delivery>::load_events(&events, "delivery.nonsense").await;
    assert!(matches!(nobody, Err(AggregateError::UnexpectedError(_))));
}
