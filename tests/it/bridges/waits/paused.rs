//! What an operator's pause lets go on: a call that is out, and the time that a message is worth sending for. And what a breaker
//! that is open says to who starts then.

use std::time::Duration;

use chat4all_channel_bridges::accounts::Accounts;
use chat4all_domain::delivery::{FailureClass, Reason, Status};
use chat4all_service::metrics::Metrics;
use serde_json::json;

use super::{change, decided, lanes_wait, shows, texts};
use crate::bridges::stage::{KIND, Posted, Stage, account_id, conversation, number, until};

/// How long the provider takes for a call, so that a pause comes in the middle of it.
const CALL_MS: u64 = 8_000;
/// What a message that is to expire is worth sending for.
const SHORT: Duration = Duration::from_millis(1_500);
const LANES: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_out_when_an_operator_pauses_is_finished_and_nothing_follows_it() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let slow = json!({"count": 1, "fault": {"kind": "latency", "ms": [CALL_MS, CALL_MS]}});
    stage.fault(slow).await;
    let lane = conversation();
    let first = stage.post(lane, &[number(1)], "first").await;
    let second = stage.post(lane, &[number(1)], "second").await;
    until(|| stage.entry(&first, 0), |entry| entry.attempts == 1).await;
    change(&stage, |state| state.pause(decided("anna"))).await;
    shows(&stage.metrics, "account_paused", true).await;
    assert_eq!(stage.entry(&first, 0).await.status(), Status::Pending);
    stage.reaches(&first, 0, Status::Sent).await;

    // The next one of the lane stands before the gate.
    lanes_wait(&stage.metrics, 1).await;
    assert_eq!(stage.entry(&second, 0).await.attempts, 0);
    assert_eq!(stage.calls().await.len(), 1);
    change(&stage, |state| state.resume(decided("anna"))).await;
    stage.reaches(&second, 0, Status::Sent).await;
    assert_eq!(
        stage.accepted(Some(&number(1))).await,
        ["first", "second"],
        "each once"
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_worth_sending_any_more_expires_under_a_pause_and_the_rest_waits() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    change(&stage, |state| state.pause(decided("anna"))).await;
    shows(&stage.metrics, "account_paused", true).await;
    let lane = conversation();
    let short = stage.post_for(lane, &[number(1)], "short", SHORT).await;
    let lasting = stage.post(lane, &[number(1)], "lasting").await;
    let failed = stage.is(&short, 0, Status::Failed).await.failed.unwrap();
    assert_eq!(
        (failed.class, failed.reason),
        (FailureClass::Permanent, Reason::MessageExpired)
    );
    lanes_wait(&stage.metrics, 1).await;
    let entry = stage.entry(&lasting, 0).await;
    assert_eq!((entry.status(), entry.attempts), (Status::Pending, 0));
    change(&stage, |state| state.resume(decided("anna"))).await;
    stage.reaches(&lasting, 0, Status::Sent).await;
    assert_eq!(stage.accepted(None).await, ["lasting"]);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_does_not_seem_less_while_another_worker_takes_over() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    change(&stage, |state| state.pause(decided("anna"))).await;
    shows(&stage.metrics, "account_paused", true).await;
    for i in 0..LANES {
        stage.post(conversation(), &[number(i)], "hello").await;
    }
    let accounts = Accounts::new(&stage.node.log);
    let waiting = || async {
        let all = accounts.waiting(KIND).await.unwrap().unwrap_or_default();
        all.get(&account_id())
            .map_or(0, |waiting| waiting.deliveries)
    };
    until(waiting, |count| *count == LANES).await;
    bridges.kill().await;
    stage.forget_leases().await;
    let metrics = Metrics::new();
    let next = stage.worker("bridges-2", &metrics, true).await;
    // Until it has all of them in hand, and has had time to say so.
    let mut left = 100;
    while left > 0 {
        assert_eq!(waiting().await, LANES);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let page = metrics.encode().unwrap();
        let line = format!(
            "chat4all_bridge_lanes_waiting{{channel=\"whatsapp\",account=\"whatsapp-main\"}} {LANES}\n"
        );
        if page.contains(&line) {
            left -= 1;
        }
    }
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_is_open_is_open_for_who_starts_then() {
    let stage = Stage::with(|_, config| {
        // What a lane waits is not what is looked at here.
        config.pace.transient = vec![Duration::from_millis(50)];
    })
    .await;
    let bridges = stage.bridges().await;
    let busy = json!({"fault": {"kind": "http_status", "status": 503}});
    stage.fault(busy).await;
    let mut posted: Vec<Posted> = Vec::new();
    for i in 0..LANES {
        posted.push(stage.post(conversation(), &[number(i)], "hello").await);
    }
    shows(&stage.metrics, "account_broken", true).await;
    bridges.kill().await;
    stage.forget_leases().await;

    let metrics = Metrics::new();
    let next = stage.worker("bridges-2", &metrics, true).await;
    shows(&metrics, "account_broken", true).await;
    // It has all of them in hand, and tries the provider with one message a period.
    lanes_wait(&metrics, LANES).await;
    let accounts = Accounts::new(&stage.node.log);
    let due = || async {
        let state = accounts.state(KIND, &account_id()).await.unwrap();
        state.broken.expect("nothing has gone well").probe_at
    };
    let (before, begun) = (stage.calls().await.len(), due().await);
    let two_later = begun.plus(2 * stage.config.pace.breaker.open_for);
    until(due, |at| *at >= two_later).await;
    let after = stage.calls().await.len();
    assert!(
        (before + 1..=before + 3).contains(&after),
        "{before}, then {after}"
    );

    stage.no_faults().await;
    for one in &posted {
        let entry = stage.reaches(one, 0, Status::Sent).await;
        assert_eq!(entry.failed, None);
    }
    assert_eq!(texts(&stage, LANES).await, vec![["hello"]; LANES]);
    shows(&metrics, "account_broken", false).await;
    next.stop().await;
}
