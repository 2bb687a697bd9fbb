//! `chat4all bench`: how fast it is, as ratios of what the same machine can do in the same run.
//!
//! Starts a stack of its own (`chat4all up` in a temporary directory) and, beside it, a bare nats-server with the same
//! streams for the raw limit. Rounds go A/B/A: whatever the machine does meanwhile hits both. Latencies are measured from
//! the moment at which a request was meant to begin (open loop), or, where it says "in flight", from when it began.

mod accept;
mod deliver;
mod idle;
mod load;
mod raw;
mod rebuild;
mod report;
mod see;
mod stack;
mod webhooks;

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};

use report::Report;

/// Requests under way at the same time, in closed loops.
const IN_FLIGHT: [usize; 2] = [1, 64];
/// Not measured, at the beginning of each run.
const WARM_UP: Duration = Duration::from_secs(2);

/// Flags of `chat4all bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo run --release -p chat4all-cli -- bench                       everything, some twenty minutes
  chat4all bench --only accept,see --seconds 20 --rounds 3           some of it
  chat4all bench --only accept --seconds 3 --rounds 1 --json         a quick look, for a program

Measure a release build, on a machine that does nothing else. Progress goes to standard error, the table to standard output.")]
pub struct BenchCommand {
    /// What to measure; everything when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How often each is repeated; the table has the median, the least and the most.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Measurement {
    /// Messages accepted over HTTP that go to nobody outside, against bare publishes of the same bytes.
    Accept,
    /// Messages to WhatsApp recipients, through the simulated provider, until they are READ; and a rebuild of what that made.
    Deliver,
    /// From a request to the provider's call and to the answer of a GraphQL query, at a steady rate.
    See,
    /// Webhooks taken in.
    Webhooks,
    /// How long a start takes and how much memory the idle stack has.
    Idle,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
struct Plan {
    time: Duration,
    rounds: u32,
}

/// Measures, and prints what came out.
///
/// # Errors
/// Something could not be started, or a request failed for good.
pub async fn run(command: &BenchCommand) -> anyhow::Result<()> {
    let plan = Plan {
        time: Duration::from_secs(command.seconds),
        rounds: command.rounds,
    };
    // They would reach the stack, and it would be another one's.
    let set = std::env::vars_os().find_map(|(name, _)| {
        let name = name.to_str()?.to_owned();
        (name.starts_with("CHAT4ALL_") && name != "CHAT4ALL_TOOLS").then_some(name)
    });
    if let Some(name) = set {
        bail!(
            "{name} is set; the defaults are measured, so unset every CHAT4ALL_ variable (`env -i PATH=\"$PATH\" …`)"
        );
    }
    let wanted = |one| command.only.is_empty() || command.only.contains(&one);
    let mut report = Report::begin();
    if wanted(Measurement::Idle) {
        idle::measure(plan, &mut report).await?;
    }
    if wanted(Measurement::Accept) {
        accept::measure(plan, &mut report).await?;
    }
    if wanted(Measurement::See) {
        see::measure(plan, &mut report).await?;
    }
    if wanted(Measurement::Deliver) {
        deliver::measure(plan, &mut report).await?;
    }
    if wanted(Measurement::Webhooks) {
        webhooks::measure(plan, &mut report).await?;
    }
    ensure!(!report.is_empty(), "nothing was measured");
    report.print(command.json)
}

fn progress(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
