//! Delivering: messages to WhatsApp recipients through the simulated provider, until they are READ.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_nats::{Log, streams};
use reqwest::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::accept::Post;
use super::report::Report;
use super::stack::Stack;
use super::{Plan, WARM_UP, progress, rebuild};

/// Recipients, half on each account.
const RECIPIENTS: usize = 2_000;
/// The provider's time for a call.
const PROVIDER_MS: u32 = 5;
/// Requests at a time.
const IN_FLIGHT: usize = 64;
/// Messages accepted but not taken by the provider yet, at most: more would only wait.
const OUTSTANDING: usize = 4_000;
/// How long what was accepted may take to be READ.
const PATIENCE: Duration = Duration::from_secs(300);
/// The second account at the simulated provider.
const NUMBER: &str = "200000000000001";
const TOKEN: &str = "the-token-of-the-second-account";
const APP_SECRET: &str = "the-secret-of-the-second-account";
const VERIFY_TOKEN: &str = "the-word-of-the-second-account";

/// # Errors
/// The stack does not start, or something is not delivered.
pub(super) async fn measure(plan: Plan, report: &mut Report) -> anyhow::Result<()> {
    progress(format_args!(
        "deliver: starting the stack, {RECIPIENTS} recipients"
    ));
    let api_base = format!("{}/v25.0", Stack::SIMULATOR);
    let stack = Stack::start(&[
        ("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__RATE_PER_S", "1000"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__KIND", "whatsapp"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__PHONE_NUMBER_ID", NUMBER),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__TOKEN", TOKEN),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__APP_SECRET", APP_SECRET),
        (
            "CHAT4ALL_CHANNELS__WHATSAPP_TWO__VERIFY_TOKEN",
            VERIFY_TOKEN,
        ),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__API_BASE", &api_base),
    ])
    .await?;
    report.synced(stack.sync().await?);
    let simulator = stack.variable("CHAT4ALL_SIMULATOR_URL")?;
    ensure!(
        simulator == Stack::SIMULATOR,
        "the simulator is at {simulator}: something else has its port; stop that"
    );
    let webhook = format!(
        "{}/webhooks/whatsapp/whatsapp-two",
        stack.variable("CHAT4ALL_URL")?
    );
    let account = json!({
        "display_phone_number": "+49 30 234567", "waba_id": "200000000000002", "webhook_url": webhook,
        "token": TOKEN, "app_secret": APP_SECRET, "verify_token": VERIFY_TOKEN,
    });
    stack
        .simulator(Method::PUT, &format!("accounts/{NUMBER}"), &account)
        .await?;
    let latency = json!({"fault": {"kind": "latency", "ms": [PROVIDER_MS, PROVIDER_MS]}});
    stack.simulator(Method::POST, "faults", &latency).await?;
    let log = stack.log().await?;
    let recipients = stack
        .recipients(RECIPIENTS, &["whatsapp-main", "whatsapp-two"])
        .await?;
    let load = Arc::new(Load {
        post: Post::prepare(&stack, recipients)?,
        next: AtomicU64::new(0),
        room: Semaphore::new(OUTSTANDING),
        ended: AtomicBool::new(false),
    });

    let (mut accepted, mut handed_over, mut read, mut syncs) = (vec![], vec![], vec![], vec![]);
    for round in 1..=plan.rounds {
        progress(format_args!("deliver: round {round}"));
        let before = Counts::now(&stack, &log).await?;
        let run = run(&stack, &load, plan.time).await?;
        accepted.push(run.accepted);
        handed_over.push(run.handed_over);
        // Everything that was begun gets to its end: only then appends can be divided by messages.
        let begun = Instant::now();
        let after = loop {
            let after = Counts::now(&stack, &log).await?;
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
        let messages = (after.posted - before.posted) as f64;
        read.push(messages / (run.took + begun.elapsed()).as_secs_f64());
        syncs.push((after.appended - before.appended) as f64 / messages);
    }
    report.add("(b2) messages accepted, closed loop", "/s", &accepted);
    report.aim(
        "(b2) messages handed to the provider, closed loop",
        "/s",
        &handed_over,
        "≥ 1,500",
    );
    report.add(
        "(b2) messages until all are READ, the drain at the end included",
        "/s",
        &read,
    );
    report.add(
        "(b2) synced appends per message, accepted through READ, webhooks included",
        "",
        &syncs,
    );
    rebuild::measure(&stack, plan, report).await?;
    stack.stop().await
}

/// What clients do: so many requests at a time, as long as not too much is under way.
struct Load {
    post: Post,
    next: AtomicU64,
    room: Semaphore,
    ended: AtomicBool,
}

/// What a round gave, per second.
struct Rates {
    accepted: f64,
    handed_over: f64,
    took: Duration,
}

async fn run(stack: &Stack, load: &Arc<Load>, time: Duration) -> anyhow::Result<Rates> {
    load.ended.store(false, Ordering::Relaxed);
    let mut clients = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let load = Arc::clone(load);
        clients.spawn(async move {
            while !load.ended.load(Ordering::Relaxed) {
                load.room.acquire().await?.forget();
                load.post
                    .send(load.next.fetch_add(1, Ordering::Relaxed))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    let begun = Instant::now();
    let mut taken = stack.handed_over().await?;
    let mut window: Option<(Instant, u64, u64)> = None;
    let rates = loop {
        sleep(Duration::from_millis(20)).await;
        // What the provider has taken makes room for as much.
        let now = stack.handed_over().await?;
        load.room.add_permits(usize::try_from(now - taken)?);
        taken = now;
        let posted = load.next.load(Ordering::Relaxed);
        if clients.len() < IN_FLIGHT || begun.elapsed() > WARM_UP + time + PATIENCE {
            break None;
        }
        match window {
            None if begun.elapsed() >= WARM_UP => window = Some((Instant::now(), posted, taken)),
            Some((from, posted_before, taken_before)) if from.elapsed() >= time => {
                let per_second = |count: u64| count as f64 / from.elapsed().as_secs_f64();
                break Some((
                    per_second(posted - posted_before),
                    per_second(taken - taken_before),
                ));
            }
            None | Some(_) => {}
        }
    };
    load.ended.store(true, Ordering::Relaxed);
    load.room.add_permits(IN_FLIGHT);
    while let Some(client) = clients.join_next().await {
        client.context("a client panicked")??;
    }
    let (accepted, handed_over) = rates.context("the load ended too early")?;
    // As at the beginning, whatever was drawn and added meanwhile.
    load.room.forget_permits(usize::MAX);
    load.room.add_permits(OUTSTANDING);
    let took = begun.elapsed();
    Ok(Rates {
        accepted,
        handed_over,
        took,
    })
}

/// Sums at one moment.
struct Counts {
    /// Messages with an outside recipient on the read side.
    posted: u64,
    /// Of these, READ.
    read: u64,
    /// Messages in every synced stream: each is one append with its fsync.
    appended: u64,
}

impl Counts {
    async fn now(stack: &Stack, log: &Log) -> anyhow::Result<Self> {
        stack.catch_up(log).await?;
        let mut connection = stack.database().await?;
        let query =
            "select count(*), count(*) filter (where status = 'READ') from chat4all.deliveries";
        let (posted, read): (i64, i64) = sqlx::query_as(query).fetch_one(&mut connection).await?;
        let inbound = log.jetstream().get_stream(streams::INBOUND).await?;
        let mut appended = inbound.get_info().await?.state.last_sequence;
        for partition in log.partitions().all() {
            appended += log.stream(partition).get_info().await?.state.last_sequence;
        }
        Ok(Self {
            posted: u64::try_from(posted)?,
            read: u64::try_from(read)?,
            appended,
        })
    }
}
