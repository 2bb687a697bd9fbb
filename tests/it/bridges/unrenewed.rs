//! A bridge that does not know whether its partitions are still its own: it reads nothing of them.

use std::time::{Duration, Instant};

use chat4all_domain::delivery::Status;
use chat4all_nats::streams::INBOUND;
use reqwest::StatusCode;
use serde_json::json;

use super::stage::{KIND, Stage, body, conversation, number, until};

#[tokio::test(flavor = "multi_thread")]
async fn while_no_lease_can_be_renewed_nothing_is_read_and_afterwards_it_is_made_up_for() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let (conversation, numbers) = (conversation(), [number(1)]);
    let before = stage.post(conversation, &numbers, "before").await;
    stage.is(&before, 0, Status::Read).await;

    // What is written to the bucket is not stored any more. Who has a lease says so for 6 s of its own clock, and what it had asked
    // the broker for expires after 5 s.
    leases_at(&stage, "$KV.ELSEWHERE.>").await;
    let idle = |feeds: &Vec<Seen>| feeds.iter().all(|feed| feed.waiting == 0);
    let at = until(|| feeds(&stage), idle).await;
    let meanwhile = stage.post(conversation, &numbers, "meanwhile").await;
    let status = json!({"id": "wamid.unknown", "status": "read", "timestamp": "1764000001", "recipient_id": number(1)});
    let told = body("statuses", &json!([status]));
    assert_eq!(stage.signed_webhook(&told).await, StatusCode::OK);
    let posted = Instant::now();
    while posted.elapsed() < Duration::from_secs(2) {
        assert_eq!(feeds(&stage).await, at, "after {:?}", posted.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stage.calls().await.len(), 1, "nothing was handed over");

    leases_at(&stage, "$KV.LEASES.>").await;
    stage.is(&meanwhile, 0, Status::Read).await;
    until(|| stage.parked(), |parked| parked.len() == 1).await;
    assert_eq!(stage.accepted(None).await, ["before", "meanwhile"]);
    bridges.stop().await;
}

/// From now on the bucket of leases stores what is published there.
async fn leases_at(stage: &Stage, subject: &str) {
    let js = stage.node.log.jetstream();
    let leases = js.get_stream("KV_LEASES").await.unwrap();
    let mut config = leases.cached_info().config.clone();
    config.subjects = vec![subject.to_owned()];
    js.update_stream(config).await.unwrap();
}

/// What the broker knows about whoever reads.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Requests for messages.
    waiting: usize,
    /// The last message that was handed out, on the stream.
    delivered: u64,
}

/// Of every partition, and of what comes in.
async fn feeds(stage: &Stage) -> Vec<Seen> {
    let log = &stage.node.log;
    let inbound = log.jetstream().get_stream_no_info(INBOUND).await.unwrap();
    let mut durables = vec![(inbound, format!("inbound-{KIND}"))];
    for partition in log.partitions().all() {
        let durable = format!("bridge-{KIND}-{partition}");
        durables.push((log.stream(partition).clone(), durable));
    }
    let mut feeds = vec![];
    for (stream, durable) in durables {
        let info = stream.consumer_info(&durable).await.unwrap();
        feeds.push(Seen {
            waiting: info.num_waiting,
            delivered: info.delivered.stream_sequence,
        });
    }
    feeds
}
