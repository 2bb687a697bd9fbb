//! Accepting: `POST /v1/messages` into conversations with nobody outside, against bare publishes of the same bytes.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use chat4all_domain::message;
use serde_json::Value;
use uuid::Uuid;

use super::load::{Operation, Run, closed, open};
use super::raw::{Publish, Template};
use super::report::Report;
use super::stack::Stack;
use super::{IN_FLIGHT, Plan, WARM_UP, progress};

/// Enough that no conversation is special; they lie in all partitions.
const CONVERSATIONS: usize = 256;

/// A client of the command API.
pub(super) struct Post {
    client: reqwest::Client,
    url: String,
    authorization: String,
    conversations: Vec<String>,
}

impl Post {
    /// One that writes into these conversations in turn.
    ///
    /// # Errors
    /// The stack does not say where it is.
    pub fn prepare(stack: &Stack, conversations: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self {
            client: stack.client().clone(),
            url: format!("{}/v1/messages", stack.variable("CHAT4ALL_URL")?),
            authorization: format!("Bearer {}", stack.variable("CHAT4ALL_TOKEN")?),
            conversations,
        })
    }

    /// Posts message number `n`; what was answered.
    ///
    /// # Errors
    /// Anything but 202.
    pub async fn send(&self, n: u64) -> anyhow::Result<Bytes> {
        let conversation = &self.conversations[n as usize % self.conversations.len()];
        let id = Uuid::now_v7();
        let body = format!(
            r#"{{"conversation_id":"{conversation}","content":{{"type":"text","text":"message number {n:012}"}},"message_id":"{id}"}}"#
        );
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json");
        let request = request
            .header("authorization", &self.authorization)
            .body(body);
        let response = request.send().await?;
        let (status, bytes) = (response.status(), response.bytes().await?);
        ensure!(
            status == 202,
            "{status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }
}

impl Operation for Post {
    async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
        self.send(n).await.map(drop)
    }
}

/// What one round gave.
#[derive(Default)]
struct Rounds {
    raw: Vec<Run>,
    ours: Vec<Run>,
}

impl Rounds {
    fn each(runs: &[Run], value: impl Fn(&Run) -> f64) -> Vec<f64> {
        runs.iter().map(value).collect()
    }

    /// Ours in relation to the mean of the raw runs right before and right after.
    fn ratio(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        let around = self
            .raw
            .windows(2)
            .map(|pair| f64::midpoint(value(&pair[0]), value(&pair[1])));
        self.ours
            .iter()
            .zip(around)
            .map(|(ours, raw)| value(ours) / raw)
            .collect()
    }
}

/// # Errors
/// The stack does not start, or refuses.
pub(super) async fn measure(plan: Plan, report: &mut Report) -> anyhow::Result<()> {
    progress("accept: starting the stack, and a bare nats-server");
    let stack = Stack::start(&[]).await?;
    report.synced(stack.sync().await?);
    let log = stack.log().await?;
    let post = Arc::new(Post::prepare(&stack, stack.groups(CONVERSATIONS).await?)?);
    let template = Template::last(&log, &sent(&post.send(0).await?)?).await?;
    let bytes = template.bytes();
    let publish = Publish::prepare(&stack.layout()?, CONVERSATIONS, template).await?;
    let times = (WARM_UP, plan.time);
    let mut behind = Vec::new();
    let mut most = (f64::NAN, f64::NAN);
    for in_flight in IN_FLIGHT {
        progress(format_args!(
            "accept: {in_flight} in flight, envelopes of {bytes} bytes"
        ));
        let mut rounds = Rounds::default();
        rounds
            .raw
            .push(closed(Arc::clone(&publish), in_flight, times).await?);
        for _ in 0..plan.rounds {
            rounds
                .ours
                .push(closed(Arc::clone(&post), in_flight, times).await?);
            behind.push(stack.catch_up(&log).await? as f64);
            rounds
                .raw
                .push(closed(Arc::clone(&publish), in_flight, times).await?);
        }
        let name = |what: &str| format!("{what}, {in_flight} in flight");
        report.add(
            name("(a) bare publishes"),
            "/s",
            &Rounds::each(&rounds.raw, Run::rate),
        );
        report.add(
            name("(b1) messages accepted"),
            "/s",
            &Rounds::each(&rounds.ours, Run::rate),
        );
        let (p50, p99) = (
            |run: &Run| run.percentile_ms(0.5),
            |run: &Run| run.percentile_ms(0.99),
        );
        report.add(name("(a) p50"), "ms", &Rounds::each(&rounds.raw, p50));
        report.add(name("(b1) p50"), "ms", &Rounds::each(&rounds.ours, p50));
        report.add(name("(b1) p99"), "ms", &Rounds::each(&rounds.ours, p99));
        if in_flight == 1 {
            report.aim(name("p50 of (b1) / (a)"), "×", &rounds.ratio(p50), "≤ 1.3");
        } else {
            report.aim(
                name("rate of (b1) / (a)"),
                "×",
                &rounds.ratio(Run::rate),
                "≥ 0.8",
            );
            let mean = |runs: &[Run]| runs.iter().map(Run::rate).sum::<f64>() / runs.len() as f64;
            most = (mean(&rounds.raw), mean(&rounds.ours));
        }
    }
    report.add(
        "(b1) events the read models were behind at the end of a run",
        "events",
        &behind,
    );

    progress("accept: at half of what each can take");
    let p99 = |run: &Run| run.percentile_ms(0.99);
    let (mut raw, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        raw.push(p99(&open(Arc::clone(&publish), most.0 / 2.0, times).await?));
        ours.push(p99(&open(Arc::clone(&post), most.1 / 2.0, times).await?));
        stack.catch_up(&log).await?;
    }
    let more: Vec<_> = ours
        .iter()
        .zip(&raw)
        .map(|(ours, raw)| ours - raw)
        .collect();
    report.add("(a) p99 at half load, open loop", "ms", &raw);
    report.add("(b1) p99 at half load, open loop", "ms", &ours);
    report.aim("p99 of (b1) − (a) at half load", "ms", &more, "≤ 5");
    stack.stop().await
}

/// The message that an answer names.
fn sent(answer: &[u8]) -> anyhow::Result<message::Id> {
    let answer: Value = serde_json::from_slice(answer)?;
    let id = |name: &str| {
        answer[name]
            .as_str()
            .with_context(|| format!("no {name} in the answer"))
    };
    Ok(message::Id {
        conversation: id("conversation_id")?.parse()?,
        message: id("message_id")?.parse()?,
    })
}
