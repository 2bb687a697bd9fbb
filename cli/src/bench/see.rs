//! How long it takes until a message is where it should be: in a query, at a subscriber, at the provider.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_service::clock;
use serde_json::{Value, json};

use super::aim::Aim;
use super::load::{Operation, Run, open};
use super::plan::{Plan, WARM_UP};
use super::post::Post;
use super::report::Report;
use super::system::System;
use super::{follow, progress};

/// Messages a second, open loop.
pub(super) const RATE: f64 = 200.0;
/// Recipients, written to in turn.
const RECIPIENTS: usize = 500;
/// How long the last calls may take after the load has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Posts, and then asks GraphQL for the message, which waits for the position that was answered.
struct PostAndQuery {
    post: Post,
    client: reqwest::Client,
    url: String,
    authorization: String,
}

impl Operation for PostAndQuery {
    async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
        let answer: Value = serde_json::from_slice(&self.post.send(n).await?)?;
        let body = json!({
            "query": "query($c: ID!, $m: ID!, $p: Position!) { message(conversationId: $c, messageId: $m, atLeast: $p) { messageId } }",
            "variables": {"c": answer["conversation_id"], "m": answer["message_id"], "p": answer["position"]},
        });
        loop {
            let request = self.client.post(&self.url);
            let request = request.header("authorization", &self.authorization);
            let shown: Value = request.json(&body).send().await?.json().await?;
            if shown["data"]["message"]["messageId"] == answer["message_id"] {
                return Ok(());
            }
            // It waits five seconds by itself; who is overloaded needs longer, and the time counts.
            let code = &shown["errors"][0]["extensions"]["code"];
            ensure!(code == "not_yet_projected", "not shown: {shown}");
        }
    }
}

/// Posts, and notes when it was meant to.
struct PostAndNote {
    post: Post,
    /// When each was meant to begin, in microseconds since 1970.
    meant_us: Mutex<HashMap<u64, u64>>,
}

impl Operation for PostAndNote {
    async fn once(&self, n: u64, meant: Instant) -> anyhow::Result<()> {
        let now_us = u64::try_from(clock::now().unix_timestamp_nanos() / 1_000)?;
        let meant_us = now_us - u64::try_from(meant.elapsed().as_micros())?;
        self.meant_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(n, meant_us);
        self.post.send(n).await.map(drop)
    }
}

/// At one rate, by three ways.
pub(super) fn takes(plan: &Plan) -> Duration {
    Duration::from_secs(20) + plan.runs(3 * plan.rounds)
}

/// Percentiles of each round.
#[derive(Default)]
struct Percentiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Percentiles {
    fn take(&mut self, run: &Run) {
        self.p50.push(run.percentile_ms(0.5));
        self.p99.push(run.percentile_ms(0.99));
    }
}

/// # Errors
/// The stack does not start, or refuses.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    progress(format_args!(
        "see: {RATE} messages a second, in turn to GraphQL, to a WebSocket, to the provider"
    ));
    let target = plan
        .target(&[("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000")])
        .await?;
    report.synced("the stack", target.sync().await?);
    let log = target.log().await?;
    let groups = target.groups(RECIPIENTS).await?;
    let recipients = match plan.running {
        Some(_) => Vec::new(),
        None => target.recipients(RECIPIENTS, &["whatsapp-main"]).await?,
    };
    let query = Arc::new(PostAndQuery {
        post: Post::prepare(&target, groups.clone())?,
        client: target.client().clone(),
        url: format!("{}/graphql", target.variable("CHAT4ALL_QUERY_URL")?),
        authorization: format!("Bearer {}", target.variable("CHAT4ALL_TOKEN")?),
    });
    let (mut graphql, mut socket, mut provider) =
        <(Percentiles, Percentiles, Percentiles)>::default();
    for _ in 0..plan.rounds {
        graphql.take(&open(Arc::clone(&query), RATE, plan.times()).await?);
        target.catch_up(&log).await?;
        socket.take(&follow::run(plan, &target, &groups).await?);
        target.catch_up(&log).await?;
        if !recipients.is_empty() {
            provider.take(&to_the_provider(plan, &target, &recipients).await?);
            target.catch_up(&log).await?;
        }
    }
    let seen = Aim::AtMost(30.0);
    let what = "(c) request → shown by GraphQL, p50";
    report.add(what, "ms", &graphql.p50);
    let what = "(c) request → shown by GraphQL, p99";
    report.aim(what, "ms", &graphql.p99, seen);
    let what = "(c) request → at a subscriber's WebSocket, p50";
    report.add(what, "ms", &socket.p50);
    let what = "(c) request → at a subscriber's WebSocket, p99";
    report.aim(what, "ms", &socket.p99, seen);
    if recipients.is_empty() {
        let why = "the account's rate of 1,000/s is a setting of the bridges, so this needs a stack of its own: leave --env out";
        report.left_out("see: request → provider's call", why);
    } else {
        let what = "(c) request → provider's call, p50";
        report.aim(what, "ms", &provider.p50, Aim::AtMost(4.0));
        let what = "(c) request → provider's call, p99";
        report.aim(what, "ms", &provider.p99, Aim::AtMost(15.0));
    }
    target.stop().await
}

/// One run: messages to `recipients`, until the simulated provider has all of them; its records say when each came.
async fn to_the_provider(
    plan: &Plan,
    system: &System,
    recipients: &[String],
) -> anyhow::Result<Run> {
    let since = system.handed_over().await?;
    let note = Arc::new(PostAndNote {
        post: Post::prepare(system, recipients.to_vec())?,
        meant_us: Mutex::default(),
    });
    open(Arc::clone(&note), RATE, plan.times()).await?;
    let meant = std::mem::take(&mut *note.meant_us.lock().unwrap_or_else(PoisonError::into_inner));
    let all = since + meant.len() as u64;
    system.until_handed_over(all, PATIENCE).await?;
    let calls = system.calls(since).await?;
    ensure!(
        calls.len() == meant.len(),
        "the provider has the records of {} calls of {}",
        calls.len(),
        meant.len()
    );
    let mut latencies = Vec::with_capacity(meant.len());
    for call in calls {
        let text = call["body"]["text"]["body"].as_str().unwrap_or_default();
        let n: Option<u64> = text.rsplit(' ').next().and_then(|n| n.parse().ok());
        let n = n.context("a call that is none of ours")?;
        let meant = meant.get(&n).context("a call that is none of ours")?;
        let at = call["at_unix_us"].as_u64();
        let at = at.context("a call without its time")?;
        if n as f64 >= RATE * WARM_UP.as_secs_f64() {
            latencies.push(u32::try_from(at.saturating_sub(*meant))?);
        }
    }
    Ok(Run::new(latencies, plan.time))
}
