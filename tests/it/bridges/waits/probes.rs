//! An account for which nobody may call is tried with one message a period, all workers together: here by two, each with half
//! of the partitions and with work in all of them.

use std::ops::Range;
use std::time::Duration;

use async_nats::jetstream::kv::Watch;
use chat4all_channel_bridges::accounts::Accounts;
use chat4all_channel_bridges::state::State;
use chat4all_domain::delivery::Status;
use chat4all_domain::{ConversationId, Timestamp};
use chat4all_service::metrics::Metrics;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{lanes_wait, shows, texts};
use crate::bridges::sharing::{spread, two_workers};
use crate::bridges::stage::{KIND, Posted, Stage, Worker, account_id, number, until};

/// Conversations in each partition, with one customer each.
const EACH: usize = 5;
const LANES: usize = 8 * EACH;
/// What each customer is to get.
const TEXTS: [&str; 2] = ["first", "second"];
/// So often a held account is tried at least while work waits at both workers.
const TRIES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_half_of_its_calls_is_left_alone_and_tried_with_one_at_a_time() {
    let stage = Stage::with(|_, config| {
        // What a lane waits is not what is looked at here.
        config.pace.transient = vec![Duration::from_millis(50)];
    })
    .await;
    let two = Two::on(&stage).await;
    let busy = json!({"fault": {"kind": "http_status", "status": 503}});
    stage.fault(busy).await;
    let mut posted = two.post(TEXTS[0], 0..LANES).await;
    posted.extend(two.post(TEXTS[1], 0..LANES).await);
    two.show("account_broken", true).await;
    // 20 of one worker open it for both; what both had out by then is out.
    let opened = stage.calls().await.len();
    assert!(opened <= 20 + 19 + 64, "{opened} calls");
    let accounts = Accounts::new(&stage.node.log);
    let look = || async { accounts.state(KIND, &account_id()).await.unwrap() };
    let broken = look().await.broken.unwrap();
    assert!(
        broken.failed * 2 >= broken.of && broken.of == 20,
        "{broken:?}"
    );
    // Two tries later there were two more calls, and perhaps some that were still out.
    let probes = |state: &State| {
        let broken = state.broken.as_ref();
        broken.map_or(0, |broken| {
            broken.probe_at.unix_ms() - broken.since.unix_ms()
        })
    };
    let settled = until(look, |state| probes(state) >= 6_000).await;
    let before = stage.calls().await.len();
    assert!(before <= opened + 64, "{before} calls after {opened}");
    let next = probes(&settled) + 3_000;
    until(look, |state| probes(state) >= next).await;
    let after = until(|| stage.calls(), |calls| calls.len() > before).await;
    assert!(after.len() <= before + 2, "{} after {before}", after.len());
    two.all_wait(&posted).await;
    two.drain(&posted, "account_broken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_needs_its_operator_is_tried_once_a_period_by_two_workers_together() {
    let stage = Stage::start().await;
    let two = Two::on(&stage).await;
    let written = states(&stage).await;
    let mut following = JoinSet::new();
    following.spawn(dues(written));
    let expired = json!({"fault": {"kind": "token_expired"}});
    stage.fault(expired).await;
    // One message finds out. What comes later stands before the gate, so whatever else is called is a try.
    let mut posted = two.post(TEXTS[0], 0..1).await;
    two.show("account_held", true).await;
    posted.extend(two.post(TEXTS[0], 1..LANES).await);
    posted.extend(two.post(TEXTS[1], 0..LANES).await);
    // At both workers every lane stands ready to be the one that tries.
    for metrics in &two.metrics {
        lanes_wait(metrics, LANES / 2).await;
    }
    let before = stage.calls().await.len();
    until(|| stage.calls(), |calls| calls.len() >= before + TRIES).await;
    two.all_wait(&posted).await;
    two.drain(&posted, "account_held").await;

    let calls = stage.calls().await;
    let refused = calls.iter().take_while(|call| call["code"] == 190);
    let refused = refused.count();
    assert_eq!(calls.len(), refused + posted.len(), "{refused} refused");
    assert_eq!(attempts(&stage, &posted).await, calls.len(), "on the log");
    let told = timeout(Duration::from_secs(60), following.join_next()).await;
    let told = told.expect("it stands in the bucket that the account works");
    let dues = told.expect("one task was spawned").unwrap();
    // The first call found out, and the last try is the one that found it repaired.
    let times: Vec<_> = calls[..=refused].iter().map(made_at).collect();
    one_a_period(&times, &dues, stage.config.pace.probe_every);
}

/// The calls after the first are tries, one a period. `dues`: when the next one was due, as all workers knew it after the first
/// call and after each try.
///
/// A call is made a moment after its worker took the turn, and now and then that moment is longer. So it is the turns that are
/// a period apart, to the millisecond, and no call comes before its own.
fn one_a_period(times: &[Timestamp], dues: &[Timestamp], period: Duration) {
    let (first, tries) = times.split_first().expect("one found out");
    let (tried, known) = (tries.len(), dues.len());
    println!("{tried} tries at {tries:?}, due at {dues:?}");
    // Also the turn that found it repaired said when the next one would be due, and was overwritten at once: perhaps unseen.
    assert!(known == tried || known == tried + 1, "{known} of {tried}");
    let mut before = first;
    for (due, made) in dues.iter().zip(tries) {
        assert!(*due >= before.plus(period), "{due} after {before}");
        assert!(made >= due, "made at {made}, due at {due}");
        before = due;
    }
}

/// When the provider was called.
fn made_at(call: &Value) -> Timestamp {
    serde_json::from_value(call["at"].clone()).unwrap()
}

/// How many attempts the log has of these.
async fn attempts(stage: &Stage, posted: &[Posted]) -> usize {
    let mut attempts = 0;
    for one in posted {
        attempts += stage.entry(one, 0).await.attempts;
    }
    usize::try_from(attempts).unwrap()
}

/// What is written about the account from now on.
async fn states(stage: &Stage) -> Watch {
    let js = stage.node.log.jetstream();
    let bucket = js.get_key_value("CHANNEL_STATE").await.unwrap();
    bucket.watch("whatsapp.whatsapp-main").await.unwrap()
}

/// When the next try of a held account is due, each time that this changes, until it works again.
async fn dues(mut states: Watch) -> Vec<Timestamp> {
    let mut dues = Vec::new();
    while let Some(written) = states.next().await {
        let state: State = serde_json::from_slice(&written.unwrap().value).unwrap();
        match state.held {
            Some(held) => dues.push(held.probe_at),
            None => break,
        }
    }
    dues
}

/// Two workers, and conversations in the partitions of both.
struct Two<'a> {
    stage: &'a Stage,
    workers: [Worker; 2],
    metrics: [Metrics; 2],
    lanes: Vec<ConversationId>,
}

impl<'a> Two<'a> {
    async fn on(stage: &'a Stage) -> Self {
        let (workers, metrics) = two_workers(stage).await;
        Self {
            stage,
            workers,
            metrics,
            lanes: spread(stage, EACH),
        }
    }

    /// Posts a text in each of these lanes.
    async fn post(&self, text: &str, lanes: Range<usize>) -> Vec<Posted> {
        let mut posted = Vec::new();
        for i in lanes {
            let to = [number(i)];
            posted.push(self.stage.post(self.lanes[i], &to, text).await);
        }
        posted
    }

    /// Waits until a gauge of the account is 1 at both workers, or is not.
    async fn show(&self, name: &str, wanted: bool) {
        for metrics in &self.metrics {
            shows(metrics, name, wanted).await;
        }
    }

    /// Nothing of it has arrived or failed.
    async fn all_wait(&self, posted: &[Posted]) {
        for one in posted {
            let entry = self.stage.entry(one, 0).await;
            assert_eq!(entry.status(), Status::Pending);
        }
    }

    /// The provider is well again: everything arrives once and in order, nothing has failed, and both workers know, whose gauge
    /// `name` said that the account waits.
    async fn drain(self, posted: &[Posted], name: &str) {
        self.stage.no_faults().await;
        for one in posted {
            let entry = self.stage.reaches(one, 0, Status::Sent).await;
            assert_eq!(entry.failed, None);
        }
        for (i, got) in texts(self.stage, LANES).await.into_iter().enumerate() {
            assert_eq!(got, TEXTS, "what {} got", number(i));
        }
        self.show(name, false).await;
        for worker in self.workers {
            worker.stop().await;
        }
    }
}
