//! What waits, and for whom: a wait until tomorrow, an operator's pause, a customer's limit, several workers at one account.
//! How an account is tried that waits as a whole is in [`probes`], when its breaker opens in [`breaker`], what a pause lets go on in
//! [`paused`], and whether a wait ends at a worker that found it on the log in [`rebuilt`].

mod breaker;
mod paused;
mod probes;
mod rebuilt;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_channel_bridges::accounts::{Accounts, Retrying, Waiting};
use chat4all_channel_bridges::config::Account;
use chat4all_channel_bridges::state::{Decision, Held, State};
use chat4all_domain::delivery::{Entry, Event, FailureClass, Reason, Status};
use chat4all_domain::{AccountId, Timestamp};
use chat4all_service::metrics::Metrics;
use serde_json::{Value, json};

use super::sharing::two_workers;
use super::stage::{KIND, Posted, Stage, account_id, conversation, now, number, until};

const DAY: Duration = Duration::from_secs(86_400);

fn gauge(metrics: &Metrics, name: &str) -> bool {
    let line = format!("{name}{{channel=\"whatsapp\",account=\"whatsapp-main\"}} 1");
    metrics.encode().unwrap().contains(&line)
}

async fn shows(metrics: &Metrics, name: &str, wanted: bool) {
    until(|| async { gauge(metrics, name) }, |seen| *seen == wanted).await;
}

/// Waits until just so many lanes stand before the account's gate at a worker.
async fn lanes_wait(metrics: &Metrics, count: usize) {
    let line = format!(
        "chat4all_bridge_lanes_waiting{{channel=\"whatsapp\",account=\"whatsapp-main\"}} {count}\n"
    );
    until(
        || async { metrics.encode().unwrap() },
        |page| page.contains(&line),
    )
    .await;
}

fn decided(by: &str) -> Decision {
    Decision {
        since: now(),
        by: by.to_owned(),
        reason: "a test".to_owned(),
    }
}

async fn change(stage: &Stage, fold: impl Fn(&mut State) -> bool) -> (State, bool) {
    let accounts = Accounts::new(&stage.node.log);
    accounts.change((KIND, &account_id()), fold).await.unwrap()
}

async fn texts(stage: &Stage, lanes: usize) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for i in 0..lanes {
        all.push(stage.accepted(Some(&number(i))).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_until_tomorrow_is_the_same_after_a_kill_and_its_lane_does_not_overtake() {
    let stage = Stage::start().await;
    let bridges = stage.bridges().await;
    // Tried once more after a day: worth it, because this one is worth sending for two.
    let tomorrow =
        json!({"to": number(1), "count": 1, "fault": {"kind": "error", "code": 131_049}});
    stage.fault(tomorrow).await;
    let lane = conversation();
    let before = now();
    let first = stage.post_for(lane, &[number(1)], "first", 2 * DAY).await;
    let second = stage.post_for(lane, &[number(1)], "second", 2 * DAY).await;
    let deferred = until(
        || stage.entry(&first, 0),
        |entry| entry.deferred_until.is_some(),
    )
    .await;
    let moment = deferred.deferred_until.unwrap();
    let wait = moment.unix_ms() - before.unix_ms();
    assert!((86_400_000..86_460_000).contains(&wait), "{wait} ms");
    let first_place = first.revision.get();
    // Whoever looks is told: both wait, for one recipient, until then.
    let accounts = Accounts::new(&stage.node.log);
    let told = Some(Waiting {
        deliveries: 2,
        retrying: Some(Retrying {
            recipients: 1,
            next: moment,
            class: FailureClass::Later24h,
        }),
    });
    let waiting = || async { accounts.waiting(KIND).await.unwrap() };
    let of_account = |all: &Option<BTreeMap<AccountId, Waiting>>| {
        all.as_ref().and_then(|all| all.get(&account_id()).copied())
    };
    until(waiting, |all| of_account(all) == told).await;
    bridges.kill().await;
    stage.forget_leases().await;
    let bridges = stage.worker("bridges-2", &Metrics::new(), true).await;
    // Another lane of the same partition: once that is sent, the whole partition is folded.
    let partition = stage.node.log.partition_of(&first.id);
    let other = loop {
        let posted = stage.post(conversation(), &[number(2)], "other").await;
        stage.reaches(&posted, 0, Status::Sent).await;
        if stage.node.log.partition_of(&posted.id) == partition {
            break posted;
        }
    };
    assert!(other.revision.get() > first_place);
    let entry = stage.entry(&first, 0).await;
    assert_eq!((entry.deferred_until, entry.attempts), (Some(moment), 1));
    assert_eq!(stage.entry(&second, 0).await.attempts, 0);
    let calls = stage.calls().await;
    let calls = calls.iter().filter(|call| call["to"] == number(1));
    assert_eq!(calls.count(), 1, "asked once, before the kill");
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_pause_holds_for_all_workers_and_for_those_to_come_and_fails_nothing() {
    let stage = Stage::start().await;
    let one = stage.bridges().await;
    let other_metrics = Metrics::new();
    let other = stage.worker("bridges-2", &other_metrics, false).await;
    let (state, changed) = change(&stage, |state| state.pause(decided("anna"))).await;
    assert!(changed && state.paused.is_some());
    let (state, changed) = change(&stage, |state| state.pause(decided("bert"))).await;
    assert!(!changed);
    assert_eq!(state.paused.unwrap().by, "anna");
    for metrics in [&stage.metrics, &other_metrics] {
        shows(metrics, "account_paused", true).await;
    }
    let lanes: Vec<_> = (0..30).map(|_| conversation()).collect();
    let mut posted: Vec<Posted> = Vec::new();
    for text in ["first", "second"] {
        for (i, lane) in lanes.iter().enumerate() {
            posted.push(stage.post(*lane, &[number(i)], text).await);
        }
    }
    // What waits is told within a second or so, account by account.
    let accounts = Accounts::new(&stage.node.log);
    let waiting = || async { accounts.waiting(KIND).await.unwrap() };
    let told = Waiting {
        deliveries: 60,
        retrying: None,
    };
    until(waiting, |waiting| {
        let all = waiting.as_ref();
        all.and_then(|all| all.get(&account_id())) == Some(&told)
    })
    .await;
    one.kill().await;
    other.kill().await;
    stage.forget_leases().await;
    let third_metrics = Metrics::new();
    let third = stage.worker("bridges-3", &third_metrics, true).await;
    shows(&third_metrics, "account_paused", true).await;
    // It has all of them in hand, and sends none.
    lanes_wait(&third_metrics, 30).await;
    assert_eq!(stage.calls().await.len(), 0);
    for one in &posted {
        let entry = stage.entry(one, 0).await;
        assert_eq!((entry.status(), entry.attempts), (Status::Pending, 0));
    }
    let (state, changed) = change(&stage, |state| state.resume(decided("bert"))).await;
    assert!(changed && state.paused.is_none());
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    let expected = vec![["first", "second"]; lanes.len()];
    assert_eq!(texts(&stage, lanes.len()).await, expected);
    shows(&third_metrics, "account_paused", false).await;
    until(waiting, |waiting| {
        waiting.as_ref().is_some_and(|all| all.is_empty())
    })
    .await;
    third.stop().await;
}

/// The names of [`two_workers`].
fn both() -> BTreeSet<String> {
    ["bridges-1", "bridges-2"].map(str::to_owned).into()
}

/// Who made the first attempt, and when.
async fn first_attempt(stage: &Stage, posted: &Posted) -> (String, Timestamp) {
    let history = stage.history(posted).await;
    let first = history.iter().find_map(|event| match event {
        Event::Attempted { facts } => Some((facts.owner.clone(), facts.occurred_at)),
        _ => None,
    });
    let (owner, at) = first.expect("it was attempted");
    (owner.split('/').next().unwrap().to_owned(), at)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_that_one_worker_meets_is_kept_by_the_other() {
    let stage = Stage::start().await;
    let one = stage.bridges().await;
    let metrics = Metrics::new();
    let other = stage.worker("bridges-2", &metrics, false).await;
    let lanes: Vec<_> = (0..40).map(|_| conversation()).collect();
    let to_all = async || {
        let (mut owners, mut times) = (BTreeSet::new(), Vec::new());
        let mut posted = Vec::new();
        for (i, lane) in lanes.iter().enumerate() {
            posted.push(stage.post(*lane, &[number(i)], "to all").await);
        }
        for one in &posted {
            stage.reaches(one, 0, Status::Sent).await;
            let (owner, at) = first_attempt(&stage, one).await;
            owners.insert(owner);
            times.push(at);
        }
        (owners, times)
    };
    until(async || to_all().await.0, |owners| *owners == both()).await;
    let rule = json!({"to": number(1_000), "count": 1, "fault": {"kind": "error", "code": 130_429, "retry_after_s": 6}});
    stage.fault(rule).await;
    let throttled = stage
        .post(conversation(), &[number(1_000)], "throttled")
        .await;
    let deferred = until(
        || stage.entry(&throttled, 0),
        |entry| entry.deferred_until.is_some(),
    )
    .await;
    let pause_ends = deferred.deferred_until.unwrap();
    // What is known of the account is one value: who shows a later one has seen this.
    let (state, _) = change(&stage, |state| state.pause(decided("anna"))).await;
    assert_eq!(state.throttled_until, Some(pause_ends));
    shows(&metrics, "account_paused", true).await;
    change(&stage, |state| state.resume(decided("anna"))).await;
    for metrics in [&stage.metrics, &metrics] {
        shows(metrics, "account_paused", false).await;
    }
    assert!(now() < pause_ends, "too slow to be of use");
    let (owners, times) = to_all().await;
    assert_eq!(owners, both());
    let early: Vec<_> = times.iter().filter(|at| **at < pause_ends).collect();
    assert!(early.is_empty(), "{early:?} before {pause_ends:?}");
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_account_that_an_operator_resumes_is_tried_now_and_what_expired_meanwhile_failed_so()
{
    let stage = Stage::with(|_, config| {
        config.pace.probe_every = Duration::from_secs(600);
    })
    .await;
    let bridges = stage.bridges().await;
    let expired = json!({"fault": {"kind": "token_expired"}});
    stage.fault(expired).await;
    let lasting = stage.post(conversation(), &[number(1)], "lasting").await;
    shows(&stage.metrics, "account_held", true).await;
    let valid_for = Duration::from_millis(1_500);
    let short = stage
        .post_for(conversation(), &[number(2)], "short", valid_for)
        .await;
    let entry = stage.is(&short, 0, Status::Failed).await;
    let failed = entry.failed.unwrap();
    assert_eq!(
        (failed.class, failed.reason),
        (FailureClass::Permanent, Reason::MessageExpired)
    );
    assert_eq!(stage.entry(&lasting, 0).await.status(), Status::Pending);
    // Not repaired yet: tried once, and held again.
    let before = stage.calls().await.len();
    let (_, changed) = change(&stage, |state| state.resume(decided("anna"))).await;
    assert!(changed);
    until(|| stage.calls(), |calls| calls.len() == before + 1).await;
    let accounts = Accounts::new(&stage.node.log);
    let look = || async { accounts.state(KIND, &account_id()).await.unwrap() };
    let state = until(look, |state| {
        let held = state.held.as_ref();
        held.is_some_and(|held| held.probe_at.unix_ms() > now().unix_ms() + 500_000)
    })
    .await;
    assert_eq!(state.held.unwrap().code.as_deref(), Some("190"));
    stage.no_faults().await;
    let (_, changed) = change(&stage, |state| state.resume(decided("anna"))).await;
    assert!(changed);
    stage.reaches(&lasting, 0, Status::Sent).await;
    shows(&stage.metrics, "account_held", false).await;
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_customer_may_not_get_now_waits_in_every_conversation_and_at_every_worker() {
    let stage = Stage::start().await;
    let (workers, _) = two_workers(&stage).await;
    let pair = json!({"to": number(1), "fault": {"kind": "error", "code": 131_056}});
    stage.fault(pair).await;
    let first = stage.post(conversation(), &[number(1)], "first").await;
    // Its third wait is 16 s: long enough to look around.
    until(|| stage.entry(&first, 0), |entry| entry.attempts >= 3).await;
    until(
        || stage.entry(&first, 0),
        |entry| entry.deferred_until.is_some(),
    )
    .await;
    let told = || async {
        let bucket = stage
            .node
            .log
            .jetstream()
            .get_stream("KV_CHANNEL_STATE")
            .await;
        bucket.unwrap().cached_info().state.messages
    };
    until(told, |entries| *entries == 1).await;
    // One for each partition: both workers have half of these, and hear of it in a moment.
    let mut elsewhere = Vec::new();
    let mut partitions = BTreeSet::new();
    while partitions.len() < 8 {
        let posted = stage.post(conversation(), &[number(1)], "elsewhere").await;
        partitions.insert(stage.node.log.partition_of(&posted.id));
        elsewhere.push(posted);
    }
    let somebody = stage.post(conversation(), &[number(2)], "hello").await;
    stage.reaches(&somebody, 0, Status::Sent).await;
    for posted in &elsewhere {
        let entry = stage.entry(posted, 0).await;
        assert_eq!((entry.status(), entry.attempts), (Status::Pending, 0));
    }
    let calls = stage.calls().await;
    let calls = calls.iter().filter(|call| call["to"] == number(1)).count();
    assert_eq!(calls, 3, "those of the first conversation");
    stage.no_faults().await;
    for posted in elsewhere.iter().chain([&first]) {
        stage.reaches(posted, 0, Status::Sent).await;
    }
    let mut owners = BTreeSet::new();
    for posted in &elsewhere {
        owners.insert(first_attempt(&stage, posted).await.0);
    }
    assert_eq!(owners, both(), "each had some of them");
    // What is over needs no place.
    until(told, |entries| *entries == 0).await;
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_together_make_no_more_calls_at_a_time_than_the_account_may() {
    const AT_A_TIME: usize = 8;
    let stage = Stage::with(|_, config| {
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        account.concurrency = AT_A_TIME;
    })
    .await;
    let (workers, _) = two_workers(&stage).await;
    let latency = json!({"fault": {"kind": "latency", "ms": 100}});
    stage.fault(latency).await;
    let mut posted = Vec::new();
    for i in 0..160 {
        posted.push(stage.post(conversation(), &[number(i)], "hello").await);
    }
    for one in &posted {
        stage.reaches(one, 0, Status::Sent).await;
    }
    let mut owners = BTreeSet::new();
    for one in &posted {
        for event in stage.history(one).await {
            if let chat4all_domain::delivery::Event::Attempted { facts } = event {
                owners.insert(facts.owner.split('/').next().unwrap().to_owned());
            }
        }
    }
    assert_eq!(owners.len(), 2, "{owners:?}");
    let at = |call: &Value| {
        let at = call["at"].as_str().unwrap();
        let format = &time::format_description::well_known::Rfc3339;
        let at = time::OffsetDateTime::parse(at, format).unwrap();
        at.unix_timestamp_nanos() / 1_000
    };
    // Each was out for 100 ms at least, so those that came in within that time were out together.
    let mut began: Vec<_> = stage.calls().await.iter().map(at).collect();
    began.sort_unstable();
    let together = began.iter().enumerate().map(|(i, begin)| {
        let same = began[i..].iter().take_while(|at| **at < begin + 100_000);
        same.count()
    });
    let most = together.max().unwrap();
    assert!(most <= AT_A_TIME, "{most} calls at a time");
    assert!(most > AT_A_TIME / 2, "only {most} calls at a time");
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_race_with_the_calls_answer_find_their_message_from_either_side() {
    let stage = Stage::with(|simulated, config| {
        simulated.settings.batch_max = 1;
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        account.echoes = false;
    })
    .await;
    let bridges = stage.bridges().await;
    // The webhooks are taken just before the call is answered: who is faster differs from one to the next.
    let early = json!({"fault": {"kind": "early_receipts", "steps": ["sent", "delivered"]}});
    stage.fault(early).await;
    let mut posted = Vec::new();
    for i in 0..150 {
        posted.push(stage.post(conversation(), &[number(i)], "hello").await);
    }
    for one in &posted {
        let all = |entry: &Entry| {
            let times = [entry.sent_at, entry.delivered_at, entry.read_at];
            times.iter().all(Option::is_some)
        };
        let entry = until(|| stage.entry(one, 0), all).await;
        assert_eq!((entry.status(), entry.attempts), (Status::Read, 1));
    }
    // Some were put aside, and none was left there.
    let aside = |page: &String| page.contains("why=\"unknown_message\"");
    assert!(aside(&stage.metrics.encode().unwrap()), "none was early");
    until(|| stage.parked(), Vec::is_empty).await;
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_an_operator_deletes_is_none_for_all_workers_and_for_those_to_come() {
    let stage = Stage::start().await;
    let one = stage.bridges().await;
    change(&stage, |state| state.pause(decided("anna"))).await;
    shows(&stage.metrics, "account_paused", true).await;
    let waits = stage.post(conversation(), &[number(1)], "waits").await;
    lanes_wait(&stage.metrics, 1).await;
    assert_eq!(stage.calls().await.len(), 0);
    // What `nats kv del CHANNEL_STATE whatsapp.whatsapp-main` does: a mark stands where the value was.
    let js = stage.node.log.jetstream();
    let bucket = js.get_key_value("CHANNEL_STATE").await.unwrap();
    bucket.delete("whatsapp.whatsapp-main").await.unwrap();
    shows(&stage.metrics, "account_paused", false).await;
    stage.reaches(&waits, 0, Status::Sent).await;
    let accounts = Accounts::new(&stage.node.log);
    let state = accounts.state(KIND, &account_id()).await.unwrap();
    assert_eq!(state, State::default());
    one.kill().await;
    stage.forget_leases().await;
    // One that comes now finds the mark, and an operator's next word stands over it.
    let metrics = Metrics::new();
    let two = stage.worker("bridges-2", &metrics, true).await;
    let sent = stage.post(conversation(), &[number(2)], "sent").await;
    stage.reaches(&sent, 0, Status::Sent).await;
    let (state, changed) = change(&stage, |state| state.pause(decided("bert"))).await;
    assert!(changed && state.paused.unwrap().by == "bert");
    shows(&metrics, "account_paused", true).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_whose_worker_gives_it_up_in_that_moment_is_made_by_the_next_at_once() {
    let stage = Stage::with(|_, config| {
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        // Who is in front is the one that tries.
        account.concurrency = 1;
        // Whoever loses the try loses it for longer than anybody waits.
        config.pace.probe_every = Duration::from_secs(3_600);
    })
    .await;
    let bridges = stage.bridges().await;
    let hold = |state: &mut State| {
        let (since, probe_at) = (now(), now().plus(Duration::from_secs(3)));
        let reason = Reason::InactiveCredential;
        state.held = Some(Held {
            since,
            reason,
            code: None,
            probe_at,
        });
        true
    };
    // Worth sending until just behind the moment of the try.
    let (state, _) = change(&stage, hold).await;
    let probe_at = state.held.unwrap().probe_at;
    shows(&stage.metrics, "account_held", true).await;
    let left = probe_at.unix_ms() - now().unix_ms() + 300;
    let left = Duration::from_millis(u64::try_from(left).unwrap());
    let first = stage
        .post_for(conversation(), &[number(1)], "too late", left)
        .await;
    lanes_wait(&stage.metrics, 1).await;
    let second = stage.post(conversation(), &[number(2)], "in time").await;
    lanes_wait(&stage.metrics, 2).await;
    // The broker is silent when the first one sets out to try, and until it is not worth sending any more.
    stage.node.nats.suspend().await;
    lanes_wait(&stage.metrics, 1).await;
    stage.node.nats.resume();
    stage.reaches(&second, 0, Status::Sent).await;
    let failed = stage.entry(&first, 0).await;
    assert_eq!((failed.status(), failed.attempts), (Status::Failed, 0));
    let accounts = Accounts::new(&stage.node.log);
    let state = accounts.state(KIND, &account_id()).await.unwrap();
    assert_eq!(state.held, None, "it works");
    bridges.stop().await;
}
