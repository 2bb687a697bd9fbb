//! An account for which nobody may call is tried with one message a period, all workers together: here by two, each with half
//! of the partitions and with work in all of them.

use std::ops::Range;
use std::time::Duration;

use chat4all_channel_bridges::accounts::Accounts;
use chat4all_channel_bridges::state::State;
use chat4all_domain::ConversationId;
use chat4all_domain::delivery::Status;
use chat4all_service::metrics::Metrics;
use serde_json::json;

use super::{shows, texts};
use crate::bridges::sharing::{spread, two_workers};
use crate::bridges::stage::{KIND, Posted, Stage, Worker, account_id, number, until};

/// Conversations in each partition, with one customer each.
const EACH: usize = 5;
const LANES: usize = 8 * EACH;
/// What each customer is to get.
const TEXTS: [&str; 2] = ["first", "second"];

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
