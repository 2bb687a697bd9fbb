//! Every class of failure acts as written.

use std::time::{Duration, Instant};

use chat4all_channel_bridges::config::{Account, Unsure};
use chat4all_domain::UserId;
use chat4all_domain::delivery::{Command, Event, FailureClass, Reason, Status};
use chat4all_service::metrics::Metrics;
use serde_json::{Value, json};

use super::stage::{Posted, Stage, conversation, now, number, until};
use crate::support::log::context;

fn error(to: &str, count: u64, code: u32) -> Value {
    json!({"to": to, "count": count, "fault": {"kind": "error", "code": code}})
}

fn reasons(history: &[Event]) -> Vec<(FailureClass, Reason)> {
    let reasons = history.iter().filter_map(|event| match event {
        Event::Deferred { facts } => Some((facts.class, facts.reason)),
        Event::Failed { facts, .. } => Some((facts.class, facts.reason)),
        _ => None,
    });
    reasons.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_failed_with_their_reason_and_the_lane_goes_on() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let expected = [
        (
            131_026,
            FailureClass::Permanent,
            Reason::RecipientNotReachable,
        ),
        (
            131_047,
            FailureClass::Window,
            Reason::OutsideAllowedSendingWindow,
        ),
        (131_050, FailureClass::Stopped, Reason::RecipientNotOptedIn),
        (131_053, FailureClass::Degrade, Reason::MediaNotReachable),
        (131_043, FailureClass::Permanent, Reason::MessageExpired),
        // Tomorrow would be too late for a message that is worth sending for an hour.
        (
            131_049,
            FailureClass::Later24h,
            Reason::RecipientNotReachable,
        ),
    ];
    for (i, (code, class, reason)) in expected.into_iter().enumerate() {
        let lane = conversation();
        stage.fault(error(&number(i), 1, code)).await;
        let refused = stage.post(lane, &[number(i)], "refused").await;
        let next = stage.post(lane, &[number(i)], "next").await;
        let entry = stage.is(&refused, 0, Status::Failed).await;
        assert_eq!(entry.attempts, 1, "{code}");
        assert_eq!(
            entry.failed.map(|f| (f.class, f.reason)),
            Some((class, reason)),
            "{code}"
        );
        let told = stage
            .history(&refused)
            .await
            .into_iter()
            .find_map(|event| match event {
                Event::Failed { facts, personal } => {
                    Some((facts.provider_code, personal.provider_text))
                }
                _ => None,
            });
        let (told, words) = told.unwrap();
        assert_eq!(told, Some(code.to_string()));
        assert!(words.is_some_and(|words| !words.is_empty()));
        stage.reaches(&next, 0, Status::Sent).await;
    }
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_failures_are_retried_and_one_kind_of_them_only_once() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage.fault(error(&number(1), 3, 131_000)).await;
    stage.fault(error(&number(2), 9, 135_000)).await;
    let gateway = json!({"to": number(3), "count": 2, "fault": {"kind": "http_status", "status": 502, "body": "<h1>busy</h1>"}});
    stage.fault(gateway).await;
    let passing = stage.post(conversation(), &[number(1)], "passing").await;
    let generic = stage.post(conversation(), &[number(2)], "generic").await;
    let gateway = stage.post(conversation(), &[number(3)], "gateway").await;
    let entry = stage.reaches(&passing, 0, Status::Sent).await;
    assert_eq!(entry.attempts, 4);
    assert_eq!(
        reasons(&stage.history(&passing).await),
        [(FailureClass::Transient, Reason::ChannelFailure); 3]
    );
    let entry = stage.is(&generic, 0, Status::Failed).await;
    assert_eq!(entry.attempts, 2);
    assert_eq!(stage.reaches(&gateway, 0, Status::Sent).await.attempts, 3);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_limit_pauses_that_lane_longer_each_time() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage.fault(error(&number(1), 2, 131_056)).await;
    let posted = stage.post(conversation(), &[number(1)], "one").await;
    stage.reaches(&posted, 0, Status::Sent).await;
    let history = stage.history(&posted).await;
    let at = history.iter().filter_map(|event| match event {
        Event::Attempted { facts } => Some(facts.occurred_at.unix_ms()),
        _ => None,
    });
    let at: Vec<_> = at.collect();
    let waits: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 4^0 and 4^1 seconds.
    assert!(
        waits[0] >= 1_000 && waits[1] >= 4_000 && waits.len() == 2,
        "{waits:?}"
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_pauses_the_account_as_long_as_the_provider_asks() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let rule = json!({"to": number(1), "count": 1, "fault": {"kind": "error", "code": 130_429, "retry_after_s": 2}});
    stage.fault(rule).await;
    let throttled = stage.post(conversation(), &[number(1)], "throttled").await;
    until(
        || stage.entry(&throttled, 0),
        |entry| entry.deferred_until.is_some(),
    )
    .await;
    let started = Instant::now();
    let other = stage.post(conversation(), &[number(2)], "other").await;
    stage.reaches(&other, 0, Status::Sent).await;
    assert!(
        started.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        started.elapsed()
    );
    let entry = stage.reaches(&throttled, 0, Status::Sent).await;
    assert_eq!(entry.attempts, 2);
    assert_eq!(
        reasons(&stage.history(&throttled).await),
        [(FailureClass::Rate, Reason::RateLimited)]
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_holds_the_queue_fails_nothing_and_drains_in_order_when_repaired() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage
        .fault(json!({"fault": {"kind": "token_expired"}}))
        .await;
    let lanes: Vec<_> = (0..100).map(|_| conversation()).collect();
    let mut posted: Vec<Posted> = Vec::new();
    for text in ["first", "second", "third"] {
        for (i, lane) in lanes.iter().enumerate() {
            posted.push(stage.post(*lane, &[number(i)], text).await);
        }
    }
    let held = |page: &String| {
        page.contains(
            "chat4all_bridge_account_held{channel=\"whatsapp\",account=\"whatsapp-main\"} 1",
        )
    };
    until(|| async { stage.metrics.encode().unwrap() }, held).await;
    // After at least one probe there were few calls: one at first for each that was under way, then one each time.
    let before = stage.calls().await.len();
    let probed = until(|| stage.calls(), |calls| calls.len() >= before + 2).await;
    assert!(probed.len() <= 64 + 5, "{} calls", probed.len());
    for one in &posted {
        assert_eq!(stage.entry(one, 0).await.status(), Status::Pending);
    }
    stage.no_faults().await;
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    for i in 0..lanes.len() {
        assert_eq!(
            stage.accepted(Some(&number(i))).await,
            ["first", "second", "third"]
        );
    }
    until(
        || async { stage.metrics.encode().unwrap() },
        |page| !held(page),
    )
    .await;
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_worker_learns_about_an_account_holds_for_all_and_for_those_to_come() {
    let stage = Stage::start().await;
    let one = stage.bridges().await;
    let metrics = Metrics::new();
    let other = stage.worker("bridges-2", &metrics, false).await;
    stage
        .fault(json!({"fault": {"kind": "token_expired"}}))
        .await;
    // One lane, so one worker calls; the other one can only be told.
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let held = |page: &String| {
        page.contains("account_held{channel=\"whatsapp\",account=\"whatsapp-main\"} 1")
    };
    until(|| async { stage.metrics.encode().unwrap() }, held).await;
    until(|| async { metrics.encode().unwrap() }, held).await;
    one.stop().await;
    other.stop().await;
    let metrics = Metrics::new();
    let third = stage.worker("bridges-3", &metrics, true).await;
    until(|| async { metrics.encode().unwrap() }, held).await;
    assert_eq!(stage.entry(&posted, 0).await.status(), Status::Pending);
    stage.no_faults().await;
    stage.reaches(&posted, 0, Status::Sent).await;
    until(|| async { metrics.encode().unwrap() }, |page| !held(page)).await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_after_acceptance_is_resolved_by_a_receipt_where_receipts_bring_our_reference() {
    let stage = Stage::with(|_, config| {
        config.pace.provider_timeout = Duration::from_millis(500);
    })
    .await;
    let bridges = stage.bridges().await;
    stage
        .fault(json!({"to": number(1), "count": 1, "fault": {"kind": "hang", "accepted": true}}))
        .await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let entry = stage.reaches(&posted, 0, Status::Read).await;
    assert_eq!(entry.attempts, 1);
    let next = stage
        .post(posted.id.conversation, &[number(1)], "next")
        .await;
    stage.reaches(&next, 0, Status::Sent).await;
    assert_eq!(
        stage.accepted(Some(&number(1))).await,
        ["hello", "next"],
        "nothing was sent twice"
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsure_send_without_a_receipt_is_sent_again_once_per_attempt() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage
        .fault(
            json!({"to": number(1), "count": 2, "fault": {"kind": "missing_id", "accepted": true}}),
        )
        .await;
    let silent = json!({"to": number(1), "fault": {"kind": "missing_receipts", "steps": ["sent", "delivered", "read"]}});
    stage.fault(silent).await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let entry = stage.reaches(&posted, 0, Status::Sent).await;
    assert_eq!(entry.attempts, 3);
    // Two whose answers could not be read, and one that was answered.
    assert_eq!(stage.accepted(Some(&number(1))).await, ["hello"; 3]);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_resending_is_not_wanted_an_unsure_send_fails_visibly() {
    let stage = Stage::with(|_, config| {
        let Some(Account::WhatsApp(account)) = config.accounts.values_mut().next() else {
            unreachable!("the stage has one account");
        };
        account.unsure = Unsure::Fail;
    })
    .await;
    let bridges = stage.bridges().await;
    stage
        .fault(json!({"to": number(1), "fault": {"kind": "malformed_answer", "accepted": false}}))
        .await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let entry = stage.is(&posted, 0, Status::Failed).await;
    assert_eq!(entry.attempts, 1);
    assert_eq!(
        entry.failed.map(|failed| failed.class),
        Some(FailureClass::Unsure)
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_fails_and_a_redrive_counts_anew() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage.fault(error(&number(1), 1_000, 131_016)).await;
    let lane = conversation();
    let valid_for = Duration::from_millis(1_500);
    let posted = stage.post_for(lane, &[number(1)], "hello", valid_for).await;
    let entry = stage.is(&posted, 0, Status::Failed).await;
    assert_eq!(
        entry.failed.map(|failed| failed.reason),
        Some(Reason::MessageExpired)
    );
    // Its lane has moved on; redriven, it comes after what was there before.
    let later = stage.post(lane, &[number(1)], "later").await;
    stage.no_faults().await;
    stage.reaches(&later, 0, Status::Sent).await;
    let command = Command::Redrive {
        only: vec![],
        by: UserId::derive("test", "anna"),
        at: now(),
    };
    stage
        .deliveries
        .execute(&posted.id, command, context(20))
        .await
        .unwrap();
    let entry = stage.reaches(&posted, 0, Status::Sent).await;
    assert_eq!(entry.generation, 1);
    assert_eq!(stage.accepted(Some(&number(1))).await, ["later", "hello"]);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_receipt_fails_what_the_provider_had_taken() {
    let stage = Stage::with(|_, config| {
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        account.echoes = false;
    })
    .await;
    let bridges = stage.bridges().await;
    stage
        .fault(json!({"to": number(1), "fault": {"kind": "failed_receipt", "code": 131_026}}))
        .await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let entry = stage.is(&posted, 0, Status::Failed).await;
    assert_eq!(
        entry.failed.map(|failed| failed.reason),
        Some(Reason::RecipientNotReachable)
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_away_messages_wait_and_then_arrive_in_order() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    stage
        .fault(json!({"fault": {"kind": "outage", "mode": "refused"}}))
        .await;
    let lane = conversation();
    let mut posted = Vec::new();
    for i in 0..5 {
        posted.push(stage.post(lane, &[number(1)], &format!("{i}")).await);
    }
    until(|| stage.entry(&posted[0], 0), |entry| entry.attempts >= 2).await;
    stage.no_faults().await;
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    assert_eq!(
        stage.accepted(Some(&number(1))).await,
        ["0", "1", "2", "3", "4"]
    );
    bridges.stop().await;
}
