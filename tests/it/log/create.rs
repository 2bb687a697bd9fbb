//! Creating: one round trip, and one of two who race.

use std::sync::atomic::Ordering;

use chat4all_domain::delivery::Rejection;
use chat4all_domain::reader::{self, Command};
use chat4all_domain::{ConversationId, MessageId, ParticipantId, Reader, Revision};
use chat4all_nats::Store;
use chat4all_nats::execute::{Assume, Context, Error};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::deliveries::{at, attempt, id, messages, owners, store};
use crate::support::log::{context, layout, one_node, opened};

fn absent() -> Context {
    Context {
        assume: Assume::Absent,
        ..context(10)
    }
}

fn mark(number: u128) -> reader::Id {
    reader::Id {
        conversation: ConversationId::new(Uuid::from_u128(number)),
        participant: ParticipantId::new(Uuid::from_u128(1)),
    }
}

fn read_up_to(sequence: u64) -> Command {
    let message = MessageId::new(Uuid::from_u128(9));
    let at = at();
    Command::ReadUpTo {
        message,
        sequence,
        at,
    }
}

#[tokio::test]
async fn a_create_is_one_publish_and_reads_nothing() {
    let node = one_node().await;
    let statistics = node.log.client().statistics();
    let (store, before) = (
        store(&node.log),
        statistics.out_messages.load(Ordering::SeqCst),
    );
    let created = store
        .execute(&id(1), attempt(0, 1, "a"), absent())
        .await
        .unwrap();
    let sent = statistics.out_messages.load(Ordering::SeqCst) - before;
    assert_eq!(sent, 1, "messages to the broker");
    assert_eq!(
        (created.revision, created.created),
        (Revision::new(1), Revision::new(1))
    );
}

#[tokio::test]
async fn of_two_who_create_the_same_one_does_and_the_other_finds_it() {
    let node = one_node().await;
    let other = opened(&node.nats.url(), "other", &layout(1)).await;
    let stores =
        [&node.log, &other].map(|log| Store::<Reader>::new(log.clone(), TaskTracker::new()));
    for number in 0..40 {
        let id = mark(number);
        let [one, two] = &stores;
        let (one, two) = tokio::join!(
            one.execute(&id, read_up_to(7), absent()),
            two.execute(&id, read_up_to(7), absent()),
        );
        let (one, two) = (one.unwrap(), two.unwrap());
        let made: Vec<_> = [&one, &two]
            .iter()
            .map(|executed| executed.events.len())
            .collect();
        assert_eq!(
            made.iter().sum::<usize>(),
            1,
            "mark {number} was made by {made:?}"
        );
        assert!(one.created > Revision::NONE);
        assert_eq!((one.created, one.position), (two.created, two.position));
        assert_eq!(one.state, two.state);
    }
}

#[tokio::test]
async fn who_loses_the_race_is_refused_on_what_the_leader_has() {
    let node = one_node().await;
    let other = opened(&node.nats.url(), "other", &layout(1)).await;
    let (one, two) = (store(&node.log), store(&other));
    for number in 0..40 {
        let id = id(number);
        let (first, second) = tokio::join!(
            one.execute(&id, attempt(0, 1, "one"), absent()),
            two.execute(&id, attempt(0, 1, "two"), absent()),
        );
        let refused = Err(Error::Rejected(Rejection::NotNext {
            n: 0,
            last: 1,
            asked: 1,
        }));
        let (winner, won, lost) = match (&first, &second) {
            (Ok(_), _) => ("one", first, second),
            _ => ("two", second, first),
        };
        let (won, lost) = (won.unwrap(), lost.map(|executed| executed.events.len()));
        assert_eq!(lost, refused);
        assert_eq!(
            owners(&node.log, &id).await,
            vec![(won.revision, winner.to_owned())]
        );
    }
}

#[tokio::test]
async fn nothing_to_do_says_where_the_thing_is() {
    let node = one_node().await;
    let stores = [(); 2].map(|()| Store::<Reader>::new(node.log.clone(), TaskTracker::new()));
    let first = stores[0]
        .execute(&mark(1), read_up_to(7), context(10))
        .await
        .unwrap();
    let second = stores[0]
        .execute(&mark(1), read_up_to(9), context(10))
        .await
        .unwrap();
    assert!(second.revision > first.revision);
    for (store, known) in stores.iter().zip(["known", "unknown"]) {
        for context in [context(10), absent()] {
            let again = store
                .execute(&mark(1), read_up_to(8), context)
                .await
                .unwrap();
            assert!(again.events.is_empty(), "{known}");
            assert_eq!(again.created, first.revision, "{known}");
            assert_eq!(
                (again.revision, again.position),
                (second.revision, second.position),
                "{known}"
            );
        }
    }
    assert_eq!(
        messages(&node.log, &id(1)).await.len(),
        0,
        "of somebody else's"
    );
}
