//! Long histories are loaded completely, broken ones not at all.

use chat4all_domain::delivery::{self, Operation};
use chat4all_domain::{CommandId, Delivery};
use chat4all_nats::codec::{self, Meta};
use chat4all_nats::execute::{Assume, Context, Error};
use chat4all_nats::load::From;
use chat4all_nats::{Log, subject};
use futures::future::join_all;
use uuid::Uuid;

use crate::support::deliveries::{at, attempt, id, loaded, messages, store};
use crate::support::log::{context, one_node};

/// One attempt as it stands on the log.
fn envelope(id: &delivery::Id, version: u64) -> bytes::Bytes {
    let facts = delivery::Attempted {
        n: 0,
        op: Operation::Send,
        attempt: u32::try_from(version).unwrap(),
        owner: "by hand".to_owned(),
        occurred_at: at(),
    };
    let event = delivery::Event::Attempted { facts };
    let meta = Meta { recorded_at: at() };
    codec::encode::<Delivery>(id, CommandId::new(Uuid::now_v7()), version, &[event], &meta)
}

/// Puts messages on an aggregate's subject past every check of ours.
async fn by_hand(log: &Log, id: &delivery::Id, payloads: impl IntoIterator<Item = bytes::Bytes>) {
    let subject = subject::of(log.partitions(), id);
    let payloads: Vec<_> = payloads.into_iter().collect();
    // Not all at once: each waits for its acknowledgement only so long.
    for some in payloads.chunks(100) {
        let mut acks = Vec::new();
        for payload in some {
            let sent = log.jetstream().publish(subject.clone(), payload.clone());
            acks.push(std::future::IntoFuture::into_future(sent.await.unwrap()));
        }
        for ack in join_all(acks).await {
            ack.unwrap();
        }
    }
}

#[tokio::test]
async fn a_history_of_several_batches_is_loaded_to_its_end() {
    let node = one_node().await;
    // Exactly one batch, one more, and two and a bit.
    for (number, length) in [(1, 500), (2, 501), (3, 1_203)] {
        let id = id(number);
        by_hand(
            &node.log,
            &id,
            (1..=length).map(|version| envelope(&id, version)),
        )
        .await;
        for from in [From::Replica, From::Leader] {
            let loaded = loaded(&node.log, &id, from).await;
            let attempts = loaded.state.entry(0, Operation::Send).attempts;
            assert_eq!(
                (loaded.version, u64::from(attempts)),
                (length, length),
                "{from:?}"
            );
        }
        let next = u32::try_from(length).unwrap() + 1;
        let executed = store(&node.log)
            .execute(&id, attempt(0, next, "next"), context(10))
            .await;
        assert_eq!(executed.unwrap().events.len(), 1);
    }
}

#[tokio::test]
async fn a_history_with_a_hole_or_a_poison_event_is_not_written_to() {
    let node = one_node().await;
    let newer = |id: &delivery::Id| {
        let text = String::from_utf8(envelope(id, 2).to_vec()).unwrap();
        text.replace("\"v\":1", "\"v\":9").into()
    };
    type Second = Box<dyn Fn(&delivery::Id) -> bytes::Bytes>;
    let cases: [(u128, Second, &str); 4] = [
        (
            1,
            Box::new(|id| envelope(id, 3)),
            "event 2 was expected, event 3 follows",
        ),
        (
            2,
            Box::new(|id| envelope(id, 1)),
            "event 2 was expected, event 1 follows",
        ),
        (
            3,
            Box::new(|_| "not an envelope".into()),
            "failed to read event",
        ),
        (4, Box::new(newer), "failed to read event"),
    ];
    for (number, second, says) in cases {
        let id = id(number);
        by_hand(&node.log, &id, [envelope(&id, 1), second(&id)]).await;
        for assume in [Assume::Nothing, Assume::Absent] {
            let context = Context {
                assume,
                ..context(10)
            };
            let answer = store(&node.log)
                .execute(&id, attempt(0, 2, "next"), context)
                .await;
            match answer {
                Err(Error::Broken(why)) => assert!(why.contains(says), "{why}"),
                other => panic!("{:?}", other.map(|executed| executed.revision)),
            }
        }
        assert_eq!(messages(&node.log, &id).await.len(), 2);
    }
}
