//! What a message goes through on its way out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chat4all_domain::delivery::{Event, Status};
use serde_json::json;

use super::stage::{PHONE, Stage, conversation, number, until};

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_sent_delivered_and_read_each_step_with_its_time() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let entry = stage.reaches(&posted, 0, Status::Read).await;
    // Receipts may come in any order; in the end all three are known.
    until(
        || stage.entry(&posted, 0),
        |e| e.sent_at.is_some() && e.delivered_at.is_some(),
    )
    .await;
    assert_eq!((entry.attempts, entry.failed), (1, None));
    let history = stage.history(&posted).await;
    assert!(matches!(&history[0], Event::Attempted { facts } if facts.attempt == 1));
    let count = |f: fn(&Event) -> bool| history.iter().filter(|event| f(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Attempted { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Delivered { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Read { .. })), 1);

    let calls = stage.calls().await;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["phone_number_id"], PHONE);
    assert_eq!(calls[0]["to"], number(1));
    assert_eq!(calls[0]["body"]["text"]["body"], "hello");
    // The trace of the request that posted it goes on to the provider.
    let trace = format!("{:032x}", posted.id.message.uuid().as_u128());
    let sent = calls[0]["traceparent"].as_str().unwrap();
    assert!(sent.contains(&trace), "{sent} is not of trace {trace}");

    let page = stage.metrics.encode().unwrap();
    let has = |line: &str| assert!(page.lines().any(|l| l == line), "no `{line}` in\n{page}");
    has("chat4all_bridge_attempts_total{channel=\"whatsapp\",account=\"whatsapp-main\"} 1");
    has(
        "chat4all_bridge_outcomes_total{channel=\"whatsapp\",account=\"whatsapp-main\",outcome=\"SENT\"} 1",
    );
    has("chat4all_bridge_calls_in_flight{channel=\"whatsapp\",account=\"whatsapp-main\"} 0");
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_lets_nothing_overtake_and_delays_nobody_else() {
    let stage = Stage::with(|_, config| {
        config.pace.transient = vec![Duration::from_secs(2)];
    })
    .await;
    let bridges = stage.bridges().await;
    let (slow, quick) = (conversation(), conversation());
    let rule = json!({"to": number(1), "count": 2, "fault": {"kind": "error", "code": 131016}});
    stage.fault(rule).await;
    let mut posted = Vec::new();
    for i in 0..10 {
        posted.push(stage.post(slow, &[number(1)], &format!("slow {i}")).await);
    }
    let started = Instant::now();
    for i in 0..10 {
        let quick = stage.post(quick, &[number(2)], &format!("quick {i}")).await;
        stage.reaches(&quick, 0, Status::Sent).await;
    }
    let took = started.elapsed();
    let before = stage.accepted(Some(&number(2))).await.len();
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    let expected: Vec<_> = (0..10).map(|i| format!("slow {i}")).collect();
    assert_eq!(stage.accepted(Some(&number(1))).await, expected);
    assert_eq!(
        before, 10,
        "the other recipient had all of theirs after {took:?}"
    );
    assert_eq!(stage.entry(&posted[0], 0).await.attempts, 3);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_of_200_one_paused_recipient_holds_up_nobody() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let numbers: Vec<_> = (0..200).map(number).collect();
    let paused = json!({"to": numbers[77], "fault": {"kind": "error", "code": 131056}});
    stage.fault(paused).await;
    let group = conversation();
    let first = stage.post(group, &numbers, "first").await;
    let second = stage.post(group, &numbers, "second").await;
    for (n, to) in (0..).zip(&numbers) {
        if *to != numbers[77] {
            stage.reaches(&first, n, Status::Read).await;
            stage.reaches(&second, n, Status::Read).await;
        }
    }
    assert_eq!(stage.entry(&first, 77).await.status(), Status::Pending);
    assert_eq!(stage.entry(&second, 77).await.attempts, 0);
    stage.no_faults().await;
    stage.reaches(&second, 77, Status::Read).await;
    assert_eq!(
        stage.accepted(Some(&numbers[77])).await,
        ["first", "second"]
    );
    let accepted = stage.accepted(None).await;
    let mut counts = BTreeMap::<_, usize>::new();
    accepted
        .into_iter()
        .for_each(|text| *counts.entry(text).or_default() += 1);
    assert_eq!(
        counts,
        [("first".to_owned(), 200), ("second".to_owned(), 200)].into()
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_are_early_shuffled_and_doubled_end_in_read_with_three_times() {
    let stage = Stage::with(|simulated, config| {
        simulated.settings.batch_max = 1;
        // So that early receipts have to wait for their reference.
        let chat4all_channel_bridges::config::Account::WhatsApp(account) =
            config.accounts.values_mut().next().unwrap();
        account.echoes = false;
    })
    .await;
    let bridges = stage.bridges().await;
    for rule in [
        json!({"fault": {"kind": "early_receipts", "steps": ["sent", "delivered"]}}),
        json!({"fault": {"kind": "latency", "ms": 300}}),
        json!({"fault": {"kind": "shuffled_receipts"}}),
        json!({"fault": {"kind": "duplicate_receipts", "copies": 3}}),
    ] {
        stage.fault(rule).await;
    }
    let mut posted = Vec::new();
    for i in 0..50 {
        posted.push(stage.post(conversation(), &[number(i)], "hello").await);
    }
    for one in &posted {
        let all = |entry: &chat4all_domain::delivery::Entry| {
            entry.sent_at.is_some() && entry.delivered_at.is_some() && entry.read_at.is_some()
        };
        let entry = until(|| stage.entry(one, 0), all).await;
        assert_eq!((entry.status(), entry.attempts), (Status::Read, 1));
    }
    // What had to wait for its reference has been taken up.
    until(|| stage.parked(), Vec::is_empty).await;
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_sends_no_faster_than_its_rate() {
    let stage = Stage::with(|_, config| {
        let chat4all_channel_bridges::config::Account::WhatsApp(account) =
            config.accounts.values_mut().next().unwrap();
        account.rate_per_s = 10;
    })
    .await;
    let numbers: Vec<_> = (0..40).map(number).collect();
    let posted = stage.post(conversation(), &numbers, "hello").await;
    // A provider that refuses what is over its limit, which is higher: calls that a busy machine holds up arrive closer
    // together than they were begun.
    stage
        .fault(json!({"fault": {"kind": "throughput", "per_second": 25}}))
        .await;
    let bridges = stage.bridges().await;
    for n in 0..40 {
        stage.reaches(&posted, n, Status::Sent).await;
    }
    assert_eq!(stage.calls().await.len(), 40, "none was refused");
    bridges.stop().await;
}
