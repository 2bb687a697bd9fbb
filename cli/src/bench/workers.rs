//! Bridges side by side: what one, two, four and eight processes hand to a slow provider.
//!
//! The provider takes 200 ms for a call, and each worker may have 16 calls out: what the account may do (`concurrency`) is
//! for all workers together and divided by the partitions that each owns (ADR 0016), so it is 16 for each worker. Eight
//! partitions over eight workers are one each. Each number of workers has a stack of its own, because the account's settings
//! are those of the bridges, and is measured when the leases are spread evenly.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_nats::{Log, streams};
use futures::TryStreamExt as _;
use tokio::time::sleep;

use super::aim::Aim;
use super::deliver::RECIPIENTS;
use super::flow::Flow;
use super::plan::Plan;
use super::post::Post;
use super::progress;
use super::report::Report;
use super::stack::Stack;
use crate::embedded::Process;

/// How many there are, in turn.
const WORKERS: [usize; 4] = [1, 2, 4, 8];
/// The provider's time for a call.
const PROVIDER_MS: u32 = 200;
/// Calls that each worker may have out.
const CALLS_EACH: usize = 16;
/// How long the leases may take to spread.
const SPREAD: Duration = Duration::from_secs(60);
/// How often it is measured anew when the leases moved meanwhile.
const TRIES: usize = 3;
/// A start, recipients, the spreading of leases and the end.
const AROUND: Duration = Duration::from_secs(22);

pub(super) fn takes(plan: &Plan) -> Duration {
    let count = plan.rounds * WORKERS.len() as u32;
    plan.runs(count) + AROUND * count
}

/// # Errors
/// A stack does not start, the leases do not spread, or a message was refused.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut rates: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for workers in WORKERS {
            progress(format_args!("workers: round {round}, {workers} at a time"));
            let rate = with(workers, plan, report).await;
            let rate = rate.with_context(|| format!("with {workers} bridge workers"))?;
            rates.entry(workers).or_default().push(rate);
        }
    }
    let of = |workers: usize| rates.get(&workers).map_or(&[][..], Vec::as_slice);
    for workers in WORKERS {
        let what = format!(
            "(f) handed to a provider at {PROVIDER_MS} ms, bridge workers: {workers}, {CALLS_EACH} calls each"
        );
        report.add(what, "/s", of(workers));
    }
    for workers in &WORKERS[1..] {
        let pairs = of(*workers).iter().zip(of(1));
        let ratio: Vec<_> = pairs.map(|(many, one)| many / one).collect();
        let what = format!("(f) bridge workers: {workers} / 1");
        match workers {
            8 => report.aim(what, "×", &ratio, Aim::AtLeast(7.0)),
            _ => report.add(what, "×", &ratio),
        }
    }
    Ok(())
}

/// What so many hand over in a second.
async fn with(workers: usize, plan: &Plan, report: &mut Report) -> anyhow::Result<f64> {
    let calls = (CALLS_EACH * workers).to_string();
    let stack = Stack::split(&[
        ("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "100000"),
        ("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__CONCURRENCY", &calls),
    ])
    .await?;
    report.synced("the stack", stack.sync().await?);
    stack.provider_takes(PROVIDER_MS).await?;
    let log = stack.log().await?;
    let mut more = Vec::new();
    for n in 1..workers {
        more.push(stack.one_more("bridges", n).await?);
    }
    let recipients = stack.recipients(RECIPIENTS, &["whatsapp-main"]).await?;
    let flow = Flow::new(&stack, Post::prepare(&stack, recipients)?).await?;
    let mut measured = None;
    for _ in 0..TRIES {
        until_spread(&log, workers, &more).await?;
        let rate = flow.run(&stack, plan.time).await?.handed_over;
        if is_spread(&log, workers).await? {
            measured = Some(rate);
            break;
        }
        progress("workers: the leases have moved meanwhile; once more");
    }
    // What is under way waits for a provider that is slow on purpose; nobody needs it any more.
    drop(more);
    stack.stop().await?;
    measured.context("the leases moved whenever it was measured")
}

/// Waits until every worker owns as many partitions as every other.
async fn until_spread(log: &Log, workers: usize, more: &[Process]) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_spread(log, workers).await? {
        ensure!(
            more.iter().all(|process| process.status().is_none()),
            "one of {workers} bridge workers has ended"
        );
        ensure!(
            begun.elapsed() < SPREAD,
            "the partitions are still not spread evenly over {workers} workers: {:?}",
            owned(log).await?.into_values().collect::<Vec<_>>()
        );
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn is_spread(log: &Log, workers: usize) -> anyhow::Result<bool> {
    let partitions = usize::from(log.partitions().get());
    let owned = owned(log).await?;
    let each = owned.values().all(|owned| *owned == partitions / workers);
    Ok(owned.len() == workers && each)
}

/// How many partitions each bridge worker owns, as the leases say.
async fn owned(log: &Log) -> anyhow::Result<BTreeMap<Vec<u8>, usize>> {
    let leases = log.jetstream().get_key_value(streams::LEASES).await?;
    let keys: Vec<String> = leases.keys().await?.try_collect().await?;
    let mut owned = BTreeMap::new();
    for key in keys {
        let number = key.strip_prefix("bridge-whatsapp.");
        if number.is_some_and(|number| number.parse::<u8>().is_ok())
            && let Some(worker) = leases.get(&key).await?
        {
            *owned.entry(worker.to_vec()).or_default() += 1;
        }
    }
    Ok(owned)
}
