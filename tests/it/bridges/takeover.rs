//! A bridge that dies, and another that takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_domain::delivery::{Command, Event, Operation, Status};
use chat4all_domain::{MessageId, Position, delivery};
use chat4all_nats::Store;
use chat4all_nats::execute::Error;
use chat4all_service::metrics::Metrics;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::stage::{KIND, Posted, Stage, conversation, now, number, until};
use crate::support::log::context;
use crate::support::proxy::Proxy;
use crate::support::seed;

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_killed_in_mid_flight_loses_nothing_and_doubles_at_most_what_was_in_flight() {
    let mut rng = fastrand::Rng::with_seed(seed("bridges takeover"));
    let stage = Stage::start().await;
    stage
        .fault(json!({"fault": {"kind": "latency", "ms": [5, 40]}}))
        .await;
    let lanes: Vec<_> = (0..20).map(|i| (conversation(), number(i))).collect();
    let mut posted = Vec::new();
    let mut in_flight = BTreeSet::new();
    let mut worker = stage.bridges().await;
    for round in 0..5_usize {
        // Killed at a random moment while messages come in.
        let enough = stage.accepted_count().await + rng.u64(5..60);
        let kill = async {
            until(|| stage.accepted_count(), |accepted| *accepted >= enough).await;
            worker.kill().await;
        };
        let post = async {
            for i in 0..100 {
                let (lane, to) = &lanes[i % lanes.len()];
                let text = format!("{round}-{i}");
                posted.push(stage.post(*lane, std::slice::from_ref(to), &text).await);
            }
        };
        tokio::join!(kill, post);
        in_flight.extend(unfinished(&stage, &posted, "bridges-").await);
        stage.forget_leases().await;
        let name = format!("bridges-{}", round + 2);
        worker = stage.worker(&name, &Metrics::new(), true).await;
    }
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    for (i, (_, to)) in lanes.iter().enumerate() {
        let mut texts = stage.accepted(Some(to)).await;
        // A repetition follows right after what it repeats: its lane waited for it.
        texts.dedup();
        let expected: Vec<_> = (0..5)
            .flat_map(|round| {
                (0..100)
                    .skip(i)
                    .step_by(lanes.len())
                    .map(move |k| format!("{round}-{k}"))
            })
            .collect();
        assert_eq!(texts, expected, "what {to} got, in order");
    }
    let doubled = only_these_were_repeated(&stage, &in_flight).await;
    println!(
        "{} attempts in flight at the kills, {doubled} messages doubled",
        in_flight.len()
    );
    assert!(!in_flight.is_empty(), "no kill hit a call in flight");
    worker.stop().await;
}

/// An attempt of a message, of whose deliveries there is one.
type Attempt = (MessageId, u32);

/// The attempts of these workers that have no outcome on the log.
async fn unfinished(stage: &Stage, posted: &[Posted], workers: &str) -> BTreeSet<Attempt> {
    let mut found = BTreeSet::new();
    for one in posted {
        let in_flight = stage.entry(one, 0).await.in_flight;
        let theirs = in_flight.filter(|(_, owner)| owner.starts_with(workers));
        found.extend(theirs.map(|(attempt, _)| (one.id.message, attempt)));
    }
    found
}

/// The guarantee: the provider gets a message once more only when an attempt of it was out at a kill. So of the attempts that
/// the provider accepted, all but a message's last must be `in_flight`. Returns how many those are.
async fn only_these_were_repeated(stage: &Stage, in_flight: &BTreeSet<Attempt>) -> usize {
    let mut accepted = BTreeMap::<MessageId, Vec<u32>>::new();
    for (message, n, attempt) in stage.accepted_attempts().await {
        assert_eq!(n, 0);
        accepted.entry(message).or_default().push(attempt);
    }
    let mut repeated = 0;
    for (message, attempts) in &accepted {
        let (_, earlier) = attempts.split_last().expect("there is one");
        for attempt in earlier {
            assert!(
                in_flight.contains(&(*message, *attempt)),
                "attempt {attempt} of {message} was not out at a kill, and was repeated: {attempts:?}"
            );
        }
        repeated += earlier.len();
    }
    repeated
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_partitions_and_the_second_takes_over_what_waits() {
    let stage = Stage::start().await;
    let one = stage.bridges().await;
    let other_metrics = Metrics::new();
    let other = stage.worker("bridges-2", &other_metrics, false).await;
    let shared = |page: &String| page.contains("bridge_attempts_total");
    let mut sent = BTreeMap::new();
    // Until both have sent something.
    while !(shared(&stage.metrics.encode().unwrap()) && shared(&other_metrics.encode().unwrap())) {
        let i = sent.len();
        assert!(i < 2_000, "one worker does everything");
        let posted = stage.post(conversation(), &[number(i)], "hello").await;
        sent.insert(i, posted);
    }
    stage
        .fault(json!({"to": number(5_000), "fault": {"kind": "error", "code": 131_016}}))
        .await;
    let waiting = conversation();
    let mut posted = Vec::new();
    for text in ["a", "b", "c"] {
        posted.push(stage.post(waiting, &[number(5_000)], text).await);
    }
    until(|| stage.entry(&posted[0], 0), |entry| entry.attempts >= 1).await;
    stage.no_faults().await;
    one.kill().await;
    let all: Vec<_> = sent.values().chain(&posted).copied().collect();
    let in_flight = unfinished(&stage, &all, "bridges-1/").await;
    // The webhooks went with it, so SENT comes from the calls alone.
    for one in &all {
        stage.reaches(one, 0, Status::Sent).await;
    }
    let mut accepted = stage.accepted(Some(&number(5_000))).await;
    accepted.dedup();
    assert_eq!(accepted, ["a", "b", "c"]);
    let doubled = only_these_were_repeated(&stage, &in_flight).await;
    println!("in flight at the kill: {in_flight:?}; repeated: {doubled}");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_wakes_from_a_freeze_may_not_call_the_provider() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    stage.reaches(&posted, 0, Status::Sent).await;
    // The frozen owner knows nothing of that: it believes the first attempt to be its own.
    let frozen =
        Store::<chat4all_domain::Delivery>::new(stage.log("frozen").await, TaskTracker::new());
    let attempt = Command::Attempt {
        n: 0,
        op: Operation::Send,
        attempt: 1,
        owner: "frozen".to_owned(),
        at: now(),
    };
    let mut context = context(20);
    context.assume = chat4all_nats::execute::Assume::Absent;
    let refused = frozen.execute(&posted.id, attempt, context).await;
    assert!(
        matches!(
            refused,
            Err(Error::Rejected(delivery::Rejection::NotPending {
                n: 0,
                ..
            }))
        ),
        "{refused:?}"
    );
    bridges.stop().await;
}

/// Longer than an owner that could not renew its lease starts anything, shorter than an append is waited for.
const STALL: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_hears_of_its_attempt_after_a_freeze_makes_no_call_and_says_so() {
    let stage = Stage::start().await;
    let proxy = Proxy::start(stage.node.nats.port(), 0, 1).await;
    let bridges = stage
        .worker_at(&proxy.url(), "bridges-1", &stage.metrics, true)
        .await;
    let before = stage.post(conversation(), &[number(1)], "before").await;
    stage.reaches(&before, 0, Status::Read).await;
    proxy.stall_once(STALL);
    let posted = stage.post(conversation(), &[number(2)], "hello").await;
    until(async || proxy.stalls(), |stalls| *stalls).await;
    let entry = stage.entry(&posted, 0).await;
    assert_eq!(entry.attempts, 1, "the attempt is what is not heard of");
    stage.reaches(&posted, 0, Status::Sent).await;
    let attempts = stage.accepted_attempts().await;
    let expected = [(before.id.message, 0, 1), (posted.id.message, 0, 2)];
    assert_eq!(attempts, expected);
    let history = stage.history(&posted).await;
    assert!(
        matches!(
            history[..],
            [
                Event::Attempted { .. },
                Event::Deferred { .. },
                Event::Attempted { .. },
                ..
            ]
        ),
        "{history:?}"
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_a_dead_owner_waits_for_a_receipt_and_is_then_repeated() {
    let stage = Stage::start().await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    let attempt = Command::Attempt {
        n: 0,
        op: Operation::Send,
        attempt: 1,
        owner: "dead".to_owned(),
        at: now(),
    };
    stage
        .deliveries
        .execute(&posted.id, attempt, context(20))
        .await
        .unwrap();
    let started = std::time::Instant::now();
    let bridges = stage.bridges().await;
    let entry = stage.reaches(&posted, 0, Status::Sent).await;
    assert_eq!(entry.attempts, 2);
    assert!(started.elapsed() >= stage.config.pace.unsure_wait);
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_and_marks_that_are_lost_are_rebuilt_from_the_log() {
    let stage = Stage::with(|_, config| {
        let chat4all_channel_bridges::config::Account::WhatsApp(account) =
            config.accounts.values_mut().next().unwrap();
        account.echoes = false;
    })
    .await;
    let bridges = stage.bridges().await;
    stage
        .fault(json!({"fault": {"kind": "read_when_shown"}}))
        .await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    stage.is(&posted, 0, Status::Delivered).await;
    bridges.stop().await;
    let js = stage.node.log.jetstream();
    for bucket in ["KV_PROVIDER_REFS", "KV_LANES"] {
        js.get_stream_no_info(bucket)
            .await
            .unwrap()
            .purge()
            .await
            .unwrap();
    }
    let bridges = stage.worker("bridges-2", &Metrics::new(), true).await;
    // Shown on the phone, so read: the receipt finds its delivery, at once or after it was put aside.
    let shown = format!("phones/{}/shown", number(1));
    stage.control("POST", &shown, serde_json::Value::Null).await;
    stage.reaches(&posted, 0, Status::Read).await;
    assert_eq!(
        stage.calls().await.len(),
        1,
        "what was sent is not sent again"
    );
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_low_water_mark_follows_what_is_done_and_stays_below_what_is_open() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    let lane = conversation();
    let done = stage.post(lane, &[number(1)], "done").await;
    stage.reaches(&done, 0, Status::Read).await;
    stage
        .fault(json!({"to": number(1), "fault": {"kind": "error", "code": 131_016}}))
        .await;
    let open = stage.post(lane, &[number(1)], "open").await;
    until(|| stage.entry(&open, 0), |entry| entry.attempts >= 2).await;
    let partition = stage.node.log.partition_of(&open.id);
    let key = format!("$KV.LANES.{KIND}.{partition}");
    let js = stage.node.log.jetstream();
    let stream = js.get_stream_no_info("KV_LANES").await.unwrap();
    let mark = || async {
        let last = stream.get_last_raw_message_by_subject(&key).await.ok();
        last.and_then(|m| std::str::from_utf8(&m.payload).ok()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let place = open.revision.get();
    let at = until(mark, |mark| *mark == place - 1).await;
    assert!(
        at >= done.revision.get(),
        "{}",
        Position::new(partition, at)
    );
    stage.no_faults().await;
    until(mark, |mark| *mark > place).await;
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_finishes_what_is_under_way_and_the_next_worker_repeats_nothing() {
    let stage = Stage::start().await;
    stage
        .fault(json!({"fault": {"kind": "latency", "ms": 200}}))
        .await;
    let numbers: Vec<_> = (0..150).map(number).collect();
    let posted = stage.post(conversation(), &numbers, "hello").await;
    let one = stage.bridges().await;
    until(|| stage.accepted_count(), |accepted| *accepted >= 1).await;
    let started = std::time::Instant::now();
    one.stop().await;
    let took = started.elapsed();
    assert!(
        took < std::time::Duration::from_secs(5),
        "stopping took {took:?}"
    );
    let (mut sent, mut untouched) = (0, 0);
    for n in 0..150 {
        let entry = stage.entry(&posted, n).await;
        assert_eq!(
            entry.in_flight, None,
            "delivery {n} was left without an outcome"
        );
        sent += usize::from(entry.status() >= Status::Sent);
        untouched += usize::from(entry.attempts == 0);
    }
    assert!(
        sent > 0 && untouched > 0,
        "{sent} sent, {untouched} untouched"
    );
    let other = stage.worker("bridges-2", &Metrics::new(), true).await;
    for n in 0..150 {
        stage.reaches(&posted, n, Status::Sent).await;
    }
    assert_eq!(stage.calls().await.len(), 150, "each recipient once");
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_comes_back_loses_nothing_and_keeps_the_order() {
    let mut stage = Stage::start().await;
    stage
        .fault(json!({"fault": {"kind": "latency", "ms": [40, 80]}}))
        .await;
    let bridges = stage.bridges().await;
    let lanes: Vec<_> = (0..10).map(|i| (conversation(), number(i))).collect();
    let mut posted = Vec::new();
    for i in 0..300 {
        let (lane, to) = &lanes[i % lanes.len()];
        posted.push(
            stage
                .post(*lane, std::slice::from_ref(to), &format!("{i}"))
                .await,
        );
    }
    stage.node.nats.kill().await;
    let accepted = stage.accepted_count().await;
    assert!(accepted < 300, "killed when all was over");
    stage.node.nats.restart().await.unwrap();
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    for (i, (_, to)) in lanes.iter().enumerate() {
        let mut texts = stage.accepted(Some(to)).await;
        texts.dedup();
        let expected: Vec<_> = (0..300)
            .skip(i)
            .step_by(lanes.len())
            .map(|k| k.to_string())
            .collect();
        assert_eq!(texts, expected, "what {to} got, in order");
    }
    bridges.stop().await;
}
