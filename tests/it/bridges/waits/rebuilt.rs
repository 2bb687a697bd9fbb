//! A wait that another worker finds on the log: it ends in its time there.

use std::time::Duration;

use chat4all_domain::delivery::{Event, Status};
use chat4all_domain::{ConversationId, Timestamp};
use chat4all_service::metrics::Metrics;
use serde_json::json;

use crate::bridges::sharing::spread;
use crate::bridges::stage::{Posted, Stage, conversation, now, number, until};

/// The longest wait. Chance takes any part of it.
const WAIT: Duration = Duration::from_secs(12);
/// What has to be left of it for another worker to start in.
const ENOUGH: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_a_killed_worker_began_ends_in_its_time_at_the_next() {
    let stage = Stage::with(|_, config| config.pace.transient = vec![WAIT]).await;
    let bridges = stage.bridges().await;
    let (lane, to, first, moment) = waits(&stage).await;
    let second = stage.post(lane, std::slice::from_ref(&to), "second").await;
    bridges.kill().await;
    stage.forget_leases().await;
    let bridges = stage.worker("bridges-2", &Metrics::new(), true).await;
    // Another lane of the same partition: once that is sent, the whole partition is folded, and whoever waits does so here.
    let partition = stage.node.log.partition_of(&first.id);
    let lanes = spread(&stage, 1);
    let other = lanes[usize::from(partition.number())];
    let other = stage.post(other, &[number(0)], "other").await;
    assert_eq!(stage.node.log.partition_of(&other.id), partition);
    stage.reaches(&other, 0, Status::Sent).await;
    assert!(now() < moment, "too slow to be of use");
    assert_eq!(stage.entry(&first, 0).await.attempts, 1);

    for posted in [&first, &second] {
        stage.reaches(posted, 0, Status::Sent).await;
    }
    let history = stage.history(&first).await;
    let attempts = history.iter().filter_map(|event| match event {
        Event::Attempted { facts } => {
            Some((facts.attempt, facts.owner.as_str(), facts.occurred_at))
        }
        _ => None,
    });
    let attempts: Vec<_> = attempts.collect();
    let [(1, one, _), (2, other, again)] = attempts[..] else {
        panic!("{attempts:?}");
    };
    assert!(one.starts_with("bridges-1/") && other.starts_with("bridges-2/"));
    assert!(again >= moment, "at {again}, not before {moment}");
    assert_eq!(stage.accepted(Some(&to)).await, ["first", "second"]);
    bridges.stop().await;
}

/// A lane whose first message waits long enough: its conversation and customer, that message, and until when.
async fn waits(stage: &Stage) -> (ConversationId, String, Posted, Timestamp) {
    let mut customer = 0;
    loop {
        customer += 1;
        let (lane, to) = (conversation(), number(customer));
        let fault = json!({"kind": "error", "code": 131_016});
        let rule = json!({"to": to, "count": 1, "fault": fault});
        stage.fault(rule).await;
        let first = stage.post(lane, std::slice::from_ref(&to), "first").await;
        let look = || stage.entry(&first, 0);
        let entry = until(look, |entry| entry.deferred_until.is_some()).await;
        let moment = entry.deferred_until.unwrap();
        if moment >= now().plus(ENOUGH) {
            return (lane, to, first, moment);
        }
    }
}
