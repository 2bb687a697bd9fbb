//! How long it takes until a message is where it should be: at the provider, in a query.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_service::clock;
use serde_json::{Value, json};

use super::accept::Post;
use super::load::{Operation, Run, open};
use super::report::Report;
use super::stack::Stack;
use super::{Plan, WARM_UP, progress};

/// Messages a second, open loop.
const RATE: f64 = 200.0;
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

/// # Errors
/// The stack does not start, or refuses.
pub(super) async fn measure(plan: Plan, report: &mut Report) -> anyhow::Result<()> {
    progress(format_args!("see: {RATE} messages a second"));
    let stack = Stack::start(&[("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000")]).await?;
    report.synced(stack.sync().await?);
    let log = stack.log().await?;
    let times = (WARM_UP, plan.time);
    let groups = stack.groups(RECIPIENTS).await?;
    let query = Arc::new(PostAndQuery {
        post: Post::prepare(&stack, groups)?,
        client: stack.client().clone(),
        url: format!("{}/graphql", stack.variable("CHAT4ALL_QUERY_URL")?),
        authorization: format!("Bearer {}", stack.variable("CHAT4ALL_TOKEN")?),
    });
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let run = open(Arc::clone(&query), RATE, times).await?;
        p50.push(run.percentile_ms(0.5));
        p99.push(run.percentile_ms(0.99));
        stack.catch_up(&log).await?;
    }
    report.add("(c) request → shown by GraphQL, p50", "ms", &p50);
    report.aim("(c) request → shown by GraphQL, p99", "ms", &p99, "≤ 30");

    let recipients = stack.recipients(RECIPIENTS, &["whatsapp-main"]).await?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let since = stack.handed_over().await?;
        let note = Arc::new(PostAndNote {
            post: Post::prepare(&stack, recipients.clone())?,
            meant_us: Mutex::default(),
        });
        open(Arc::clone(&note), RATE, times).await?;
        let meant =
            std::mem::take(&mut *note.meant_us.lock().unwrap_or_else(PoisonError::into_inner));
        stack
            .until_handed_over(since + meant.len() as u64, PATIENCE)
            .await?;
        let mut latencies = Vec::with_capacity(meant.len());
        for call in stack.calls(since).await? {
            let text = call["body"]["text"]["body"].as_str().unwrap_or_default();
            let n: u64 = text
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .parse()
                .context("a call that is none of ours")?;
            let meant = meant.get(&n).context("a call that is none of ours")?;
            let at = call["at_unix_us"]
                .as_u64()
                .context("a call without its time")?;
            if n as f64 >= RATE * WARM_UP.as_secs_f64() {
                latencies.push(u32::try_from(at.saturating_sub(*meant))?);
            }
        }
        let run = Run::new(latencies, plan.time);
        p50.push(run.percentile_ms(0.5));
        p99.push(run.percentile_ms(0.99));
        stack.catch_up(&log).await?;
    }
    report.aim("(c) request → provider's call, p50", "ms", &p50, "≤ 4");
    report.aim("(c) request → provider's call, p99", "ms", &p99, "≤ 15");
    stack.stop().await
}
