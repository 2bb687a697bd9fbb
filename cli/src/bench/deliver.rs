//! Delivering: messages to WhatsApp recipients through the simulated provider, until they are READ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use async_nats::jetstream::stream::{PersistenceMode, StorageType};
use chat4all_nats::Log;
use futures::TryStreamExt as _;
use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::aim::Aim;
use super::flow::Flow;
use super::plan::Plan;
use super::post::Post;
use super::progress;
use super::report::Report;
use super::stack::Stack;
use super::system::System;

/// Recipients, half on each account.
pub(super) const RECIPIENTS: usize = 2_000;
/// The provider's time for a call.
const PROVIDER_MS: u32 = 5;
/// How long what was accepted may take to be READ.
const PATIENCE: Duration = Duration::from_secs(300);
/// The second account at the simulated provider.
const NUMBER: &str = "200000000000001";
const TOKEN: &str = "the-token-of-the-second-account";
const APP_SECRET: &str = "the-secret-of-the-second-account";
const VERIFY_TOKEN: &str = "the-word-of-the-second-account";

pub(super) fn takes(plan: &Plan) -> Duration {
    // What was accepted drains at the end of each round.
    Duration::from_secs(20) + (plan.runs(1) + Duration::from_secs(12)) * plan.rounds * 2
}

/// A stack with two accounts at 1,000 a second each, and recipients on both.
///
/// # Errors
/// It does not start.
pub(super) async fn two_accounts() -> anyhow::Result<(Stack, Vec<String>)> {
    let stack = Stack::start(&[
        ("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000"),
        // A call has its place from its append on: on a full machine 64 places are not enough for one account alone.
        ("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__CONCURRENCY", "128"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__RATE_PER_S", "1000"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__KIND", "whatsapp"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__PHONE_NUMBER_ID", NUMBER),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__TOKEN", TOKEN),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__APP_SECRET", APP_SECRET),
        (
            "CHAT4ALL_CHANNELS__WHATSAPP_TWO__VERIFY_TOKEN",
            VERIFY_TOKEN,
        ),
        (
            "CHAT4ALL_CHANNELS__WHATSAPP_TWO__API_BASE",
            "{simulator}/v25.0",
        ),
    ])
    .await?;
    let webhook = format!("{}/webhooks/whatsapp/whatsapp-two", stack.webhooks()?);
    let account = json!({
        "display_phone_number": "+49 30 234567", "waba_id": "200000000000002", "webhook_url": webhook,
        "token": TOKEN, "app_secret": APP_SECRET, "verify_token": VERIFY_TOKEN,
    });
    let path = format!("accounts/{NUMBER}");
    stack.simulator(Method::PUT, &path, &account).await?;
    stack.provider_takes(PROVIDER_MS).await?;
    let accounts = ["whatsapp-main", "whatsapp-two"];
    let recipients = stack.recipients(RECIPIENTS, &accounts).await?;
    Ok((stack, recipients))
}

/// To these recipients, a value a round.
struct Way {
    name: &'static str,
    flow: Arc<Flow>,
    accepted: Vec<f64>,
    handed_over: Vec<f64>,
    delivered: Vec<f64>,
    read: Vec<f64>,
    behind: Vec<f64>,
    syncs: Vec<f64>,
}

/// # Errors
/// The stack does not start, or something is not delivered.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    progress(format_args!(
        "deliver: {RECIPIENTS} recipients on two accounts at 1,000/s each, then on one of them; a provider at {PROVIDER_MS} ms"
    ));
    let (stack, recipients) = two_accounts().await?;
    report.synced("the stack", stack.sync().await?);
    let log = stack.log().await?;
    let alone = stack.recipients(RECIPIENTS, &["whatsapp-main"]).await?;
    let mut ways = [
        Way::new("(b2)", &stack, recipients).await?,
        Way::new("(b2) one account alone,", &stack, alone).await?,
    ];
    for round in 1..=plan.rounds {
        progress(format_args!("deliver: round {round}"));
        for way in &mut ways {
            way.round(plan, &stack, &log).await?;
        }
    }
    let [both, alone] = &ways;
    both.tell(report, Some(Aim::AtLeast(1_500.0)));
    // A thousand a second cannot reach the aim.
    alone.tell(report, None);
    stack.stop().await
}

impl Way {
    async fn new(
        name: &'static str,
        system: &System,
        recipients: Vec<String>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            flow: Flow::new(system, Post::prepare(system, recipients)?).await?,
            accepted: Vec::new(),
            handed_over: Vec::new(),
            delivered: Vec::new(),
            read: Vec::new(),
            behind: Vec::new(),
            syncs: Vec::new(),
        })
    }

    async fn round(&mut self, plan: &Plan, system: &System, log: &Log) -> anyhow::Result<()> {
        self.flow.begins(system).await?;
        let before = Counts::now(system, log).await?;
        let run = self.flow.run(system, plan.time);
        let (run, lag) = system.watching_lag(log, run).await?;
        // Everything that was begun gets to its end: only then appends can be divided by messages.
        let begun = Instant::now();
        let after = loop {
            let after = Counts::now(system, log).await?;
            if after.read - before.read == after.posted - before.posted {
                break after;
            }
            let missing = (after.posted - before.posted) - (after.read - before.read);
            ensure!(
                begun.elapsed() < PATIENCE,
                "{missing} messages are not READ"
            );
            sleep(Duration::from_millis(20)).await;
        };
        self.flow.all_handed_over(system).await?;
        let messages = (after.posted - before.posted) as f64;
        let took = run.took + begun.elapsed();
        self.accepted.push(run.accepted);
        self.handed_over.push(run.handed_over);
        self.behind.push(lag.most as f64);
        self.delivered
            .push(delivered_per_second(system, run.counted).await?);
        self.read.push(messages / took.as_secs_f64());
        self.syncs
            .push((after.synced - before.synced) as f64 / messages);
        Ok(())
    }

    fn tell(&self, report: &mut Report, aim: Option<Aim>) {
        let name = |what: &str| format!("{} {what}", self.name);
        let add = |report: &mut Report, what: &str, values: &[f64]| match aim {
            Some(aim) => report.aim(name(what), "/s", values, aim),
            None => report.add(name(what), "/s", values),
        };
        let what = name("messages accepted, closed loop");
        report.add(what, "/s", &self.accepted);
        let what = "messages handed to the provider, closed loop";
        add(report, what, &self.handed_over);
        add(
            report,
            "messages DELIVERED in the same window",
            &self.delivered,
        );
        let what = name("messages until all are READ, the drain at the end included");
        report.add(what, "/s", &self.read);
        let what =
            name("fsyncs (synced appends) per message, accepted through READ, webhooks included");
        report.add(what, "", &self.syncs);
        let what = name("projector's lag, the most of once a second");
        report.add(what, "events", &self.behind);
    }
}

/// `DeliveryDelivered` that were recorded between two moments, for each second. They come when the provider tells of them: in a
/// steady state as many as are handed over.
async fn delivered_per_second(
    system: &System,
    (from, until): (OffsetDateTime, OffsetDateTime),
) -> anyhow::Result<f64> {
    let mut connection = system.database().await?;
    let query = "select count(*) from chat4all.delivery_events
                 where type = 'DeliveryDelivered' and recorded_at >= $1 and recorded_at < $2";
    let count: i64 = sqlx::query_scalar(query)
        .bind(from)
        .bind(until)
        .fetch_one(&mut connection)
        .await?;
    Ok(count as f64 / (until - from).as_seconds_f64())
}

/// Sums at one moment.
struct Counts {
    /// Messages with an outside recipient on the read side.
    posted: u64,
    /// Of these, READ.
    read: u64,
    /// Messages that every stream ever took which writes before it acknowledges: each is one append with its fsync.
    synced: u64,
}

impl Counts {
    async fn now(system: &System, log: &Log) -> anyhow::Result<Self> {
        system.catch_up(log).await?;
        let mut connection = system.database().await?;
        let query =
            "select count(*), count(*) filter (where status = 'READ') from chat4all.deliveries";
        let (posted, read): (i64, i64) = sqlx::query_as(query).fetch_one(&mut connection).await?;
        let mut streams = log.jetstream().streams();
        let mut synced = 0;
        while let Some(stream) = streams.try_next().await? {
            let how = &stream.config;
            // What can be rebuilt is written later, without anybody waiting.
            let waits = how.persist_mode != Some(PersistenceMode::Async);
            if how.storage == StorageType::File && waits {
                synced += stream.state.last_sequence;
            }
        }
        Ok(Self {
            posted: u64::try_from(posted)?,
            read: u64::try_from(read)?,
            synced,
        })
    }
}
