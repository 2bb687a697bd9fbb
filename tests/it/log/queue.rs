//! Commands for one aggregate queue per process and are decided together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_domain::Revision;
use chat4all_nats::execute::{Context, Error, Retry};
use futures::FutureExt;
use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::deliveries::{attempt, id, owners, store};
use crate::support::log::{context, layout, one_node, opened};

#[tokio::test]
async fn who_comes_together_is_appended_together_and_in_order() {
    let node = one_node().await;
    let (store, id) = (store(&node.log), id(1));
    let name = |n: u16| format!("w{n}");
    let trace = |n: u16| format!("00-0af7651916cd43dd8448eb211c80319c-{n:016x}-01");
    let traced = |n| Context {
        traceparent: Some(trace(n)),
        ..context(20)
    };
    let answers =
        join_all((1..=200).map(|n| store.execute(&id, attempt(n, 1, &name(n)), traced(n)))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();

    let on_log = owners(&node.log, &id).await;
    let told: Vec<_> = answers
        .iter()
        .zip(1..)
        .map(|(answer, n)| (answer.revision, name(n)))
        .collect();
    assert_eq!(
        on_log, told,
        "every answer says where its event is, and nobody overtakes"
    );
    for (answer, n) in answers.iter().zip(1..) {
        assert_eq!(answer.events.len(), 1, "an answer has its own events alone");
        assert_eq!(answer.state.entry(n, Default::default()).attempts, 1);
        assert_eq!(answer.created, answers[0].revision);
        // The state is that of the revision it is told with: whoever keeps both misses nothing.
        let until = answers
            .iter()
            .filter(|other| other.revision <= answer.revision);
        let attempted = |n: &u16| answer.state.entry(*n, Default::default()).attempts == 1;
        assert_eq!((1..=200).filter(attempted).count(), until.count(), "{n}");
    }

    // Read as readers do; a single message from the leader shows only the last of several header values.
    let deadline = Instant::now() + Duration::from_secs(10);
    let messages = node
        .log
        .read(node.log.partition_of(&id), 1, deadline)
        .await
        .unwrap();
    assert!(
        messages.len() <= 8,
        "{} messages for 200 commands",
        messages.len()
    );
    let mut expected: BTreeMap<Revision, Vec<String>> = BTreeMap::new();
    for (answer, n) in answers.iter().zip(1..) {
        expected.entry(answer.revision).or_default().push(trace(n));
    }
    for message in &messages {
        let traces: Vec<_> = message
            .headers
            .get_all("traceparent")
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            Some(&traces),
            expected.get(&Revision::new(message.sequence))
        );
    }
    assert!(
        expected.values().any(|traces| traces.len() > 1),
        "nothing was decided together"
    );
}

#[tokio::test]
async fn a_command_too_large_is_refused_and_its_company_is_not() {
    let node = one_node().await;
    let (store, id) = (store(&node.log), id(1));
    let large = |bytes: usize| "x".repeat(bytes);
    // Too large alone; just small enough; two that fit one by one but not together.
    let sizes = [10, 300_000, 20, 250_000, 140_000, 140_000, 30, 262_100, 40];
    let answers = join_all(
        sizes
            .iter()
            .zip(1..)
            .map(|(bytes, n)| store.execute(&id, attempt(n, 1, &large(*bytes)), context(20))),
    )
    .await;
    let mut stored = Vec::new();
    for (bytes, answer) in sizes.into_iter().zip(answers) {
        match answer {
            Ok(executed) => stored.push((executed.revision, large(bytes))),
            Err(Error::TooLarge { bytes: counted }) => {
                assert!(counted > 262_000, "{counted} bytes are not too many");
                assert!(
                    [300_000, 262_100].contains(&bytes),
                    "{bytes} bytes were refused"
                );
            }
            Err(error) => panic!("{bytes} bytes: {error}"),
        }
    }
    assert_eq!(stored.len(), 7);
    assert!(
        owners(&node.log, &id).await == stored,
        "what is on the log is what was answered"
    );
    // And alone, without company.
    let alone = store
        .execute(&id, attempt(99, 1, &large(300_000)), context(10))
        .await;
    assert!(matches!(alone, Err(Error::TooLarge { .. })), "{alone:?}");
    assert_eq!(owners(&node.log, &id).await.len(), 7);
}

#[tokio::test]
async fn who_goes_away_does_not_stop_the_append() {
    let node = one_node().await;
    let (store, id) = (store(&node.log), id(1));
    // Polled once, so that it was begun, and dropped.
    let begun = store
        .execute(&id, attempt(0, 1, "gone"), context(10))
        .now_or_never();
    assert!(begun.is_none(), "nobody is that fast");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let on_log = owners(&node.log, &id).await;
        if on_log.len() == 1 {
            assert_eq!(on_log[0].1, "gone");
            break;
        }
        assert!(Instant::now() < deadline, "not on the log: {on_log:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The queue went on: the next command is decided on what the one that was dropped left.
    let next = store
        .execute(&id, attempt(0, 2, "next"), context(10))
        .await
        .unwrap();
    assert_eq!(next.state.entry(0, Default::default()).attempts, 2);
}

/// Who race for one place.
const RACERS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_caller_who_loses_again_and_again_is_told_so_and_nothing_of_it_is_stored() {
    let node = one_node().await;
    let mut stores = Vec::new();
    for number in 0..RACERS {
        stores.push(store(
            &opened(&node.nats.url(), &format!("racer-{number}"), &layout(1)).await,
        ));
    }
    let api = || Context {
        retry: Retry::Api,
        ..context(20)
    };
    let (mut told, mut lost) = (BTreeSet::new(), 0);
    let mut n = 0;
    // Whoever wins leaves all others as losers; who loses six times is told. That is likely in each round, and never certain.
    let until = Instant::now() + Duration::from_secs(60);
    for round in 0.. {
        let mut racing = JoinSet::new();
        for store in &stores {
            n += 1;
            let (store, name) = (store.clone(), format!("r{round}-{n}"));
            let (command, context) = (attempt(n, 1, &name), api());
            racing.spawn(async move { (name, store.execute(&id(1), command, context).await) });
        }
        for raced in racing.join_all().await {
            match raced {
                (name, Ok(executed)) => assert!(told.insert((executed.revision, name))),
                (_, Err(Error::Conflict)) => lost += 1,
                (name, Err(error)) => panic!("{name}: {error}"),
            }
        }
        if lost > 0 {
            break;
        }
        assert!(
            Instant::now() < until,
            "{RACERS} racers, and nobody lost six times in {} races",
            told.len()
        );
    }
    let on_log: BTreeSet<_> = owners(&node.log, &id(1)).await.into_iter().collect();
    assert_eq!(on_log, told);
}
