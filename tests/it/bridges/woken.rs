//! A bridge whose attempt reaches the log only when another bridge has made it.

use chat4all_domain::delivery::{Event, Status};
use chat4all_service::metrics::Metrics;

use super::stage::{Stage, conversation, number, until};
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_comes_after_another_owners_is_refused_and_makes_no_call() {
    let stage = Stage::start().await;
    let proxy = Proxy::start(stage.node.nats.port(), 0, 1).await;
    let slow = stage
        .worker_at(&proxy.url(), "bridges-1", &stage.metrics, false)
        .await;
    let held = proxy.hold_back_once("DeliveryAttempted");
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    held.has_come().await;
    let history = stage.history(&posted).await;
    assert!(history.is_empty(), "it is on its way: {history:?}");
    assert_eq!(slow.refused_appends(), 0);

    // What it had ages out, and somebody else attempts the same delivery.
    stage.forget_leases().await;
    let quick = stage.worker("bridges-2", &Metrics::new(), false).await;
    stage.reaches(&posted, 0, Status::Sent).await;
    held.let_go();
    until(async || slow.refused_appends(), |refused| *refused > 0).await;
    slow.stop().await;

    let history = stage.history(&posted).await;
    let owners = history.iter().filter_map(|event| match event {
        Event::Attempted { facts } => Some((facts.attempt, facts.owner.as_str())),
        _ => None,
    });
    let owners: Vec<_> = owners.collect();
    assert!(
        matches!(owners[..], [(1, owner)] if owner.starts_with("bridges-2/")),
        "{owners:?}"
    );
    assert_eq!(stage.calls().await.len(), 1, "only the other one called");
    let page = stage.metrics.encode().unwrap();
    assert!(!page.contains("bridge_attempts_total{"), "{page}");
    quick.stop().await;
}
