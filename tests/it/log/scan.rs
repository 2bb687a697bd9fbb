//! A scan gives every event of a stretch once and in order, whatever becomes of the consumer that serves it.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use bytes::Bytes;
use chat4all_domain::Partition;
use chat4all_nats::reader::Scan;
use chat4all_nats::{Log, Stored, streams};
use futures::StreamExt as _;
use futures::future::join_all;
use tokio::time::Instant;

use crate::support::log::{OneNode, one_node};

/// Two chunks and a bit.
const EVENTS: u64 = 1_203;

async fn filled() -> (OneNode, Partition) {
    let node = one_node().await;
    let partition = node.log.partitions().all().next().expect("there is one");
    let mut acks = Vec::new();
    for n in 0..EVENTS {
        let subject = format!("chat.evt.{partition}.message.some.{n}");
        let payload = Bytes::from(format!("event {n}"));
        let ack = node.log.jetstream().publish(subject, payload).await;
        acks.push(std::future::IntoFuture::into_future(ack.unwrap()));
    }
    join_all(acks).await.into_iter().for_each(|ack| {
        ack.unwrap();
    });
    (node, partition)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

async fn chunk(scan: &mut Scan) -> Vec<Stored> {
    scan.next(soon()).await.unwrap()
}

/// What is left of the stretch.
async fn rest(scan: &mut Scan) -> Vec<Stored> {
    let mut all = Vec::new();
    while all
        .last()
        .is_none_or(|last: &Stored| last.sequence < EVENTS)
    {
        let more = chunk(scan).await;
        assert!(!more.is_empty(), "nothing behind {:?}", all.last());
        all.extend(more);
    }
    all
}

/// Everything behind `after`, as the log itself has it.
async fn direct(log: &Log, partition: Partition, after: u64) -> Vec<Stored> {
    let mut all = Vec::new();
    loop {
        let from = after + 1 + all.len() as u64;
        let more = log.read(partition, from, soon()).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn assert_same(scanned: &[Stored], direct: &[Stored]) {
    let seen = |stored: &Stored| {
        let Stored {
            subject, payload, ..
        } = stored;
        (
            stored.sequence,
            stored.stored_at_ns,
            subject.clone(),
            payload.clone(),
        )
    };
    let [scanned, direct] = [scanned, direct].map(|all| all.iter().map(seen).collect::<Vec<_>>());
    assert!(scanned == direct, "{} and {}", scanned.len(), direct.len());
}

async fn consumers(log: &Log, partition: Partition) -> Vec<String> {
    let js = log.jetstream();
    let stream = js.get_stream(streams::name(partition)).await.unwrap();
    stream.consumer_names().map(Result::unwrap).collect().await
}

#[tokio::test]
async fn a_scan_gives_what_the_log_has_from_anywhere_and_leaves_no_consumer() {
    let (node, partition) = filled().await;
    for after in [0, 1, 499, 500, EVENTS - 1] {
        let mut scan = Scan::behind(node.log.clone(), partition, after).await;
        let scanned = rest(&mut scan).await;
        assert_same(&scanned, &direct(&node.log, partition, after).await);
        assert_eq!(
            consumers(&node.log, partition).await,
            [scan.consumer().unwrap()]
        );
        assert!(chunk(&mut scan).await.is_empty(), "behind the end");
        scan.close().await;
        assert!(consumers(&node.log, partition).await.is_empty());
    }
}

#[tokio::test]
async fn a_scan_whose_consumer_is_deleted_goes_on_without_it() {
    let (node, partition) = filled().await;
    let mut scan = Scan::behind(node.log.clone(), partition, 0).await;
    let mut scanned = chunk(&mut scan).await;
    let (js, stream) = (node.log.jetstream(), streams::name(partition));
    let name = scan.consumer().expect("it has one").to_owned();
    js.delete_consumer_from_stream(&name, &stream)
        .await
        .unwrap();
    scanned.extend(rest(&mut scan).await);
    assert_same(&scanned, &direct(&node.log, partition, 0).await);
    assert_eq!(scan.consumer(), None);
}

#[tokio::test]
async fn what_somebody_else_takes_from_a_scans_consumer_is_not_missing() {
    let (node, partition) = filled().await;
    let mut scan = Scan::behind(node.log.clone(), partition, 0).await;
    let mut scanned = chunk(&mut scan).await;
    let (js, stream) = (node.log.jetstream(), streams::name(partition));
    let name = scan.consumer().expect("it has one");
    let thief: Consumer<pull::Config> = js.get_consumer_from_stream(name, &stream).await.unwrap();
    let stolen = thief.fetch().max_messages(10).messages().await.unwrap();
    let stolen: Vec<_> = stolen.map(Result::unwrap).collect().await;
    assert_eq!(stolen.len(), 10);
    scanned.extend(rest(&mut scan).await);
    assert_same(&scanned, &direct(&node.log, partition, 0).await);
}
