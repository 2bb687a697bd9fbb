//! `chat4all bench`: how fast it is, as ratios of what the same machine can do in the same run.
//!
//! Starts a stack of its own for each measurement (`chat4all up` in a temporary directory) and, beside it, a bare nats-server
//! with the same streams for the raw limit; or, with `--env`, measures a system that runs. Rounds go A/B/A: whatever the
//! machine does meanwhile hits both. Latencies are measured from the moment at which a request was meant to begin (open
//! loop), or, where it says "in flight", from when it began. A measurement that fails is told, and the others go on.

mod accept;
mod aim;
mod bare;
mod cold;
mod conversations;
mod deliver;
mod files;
mod flow;
mod follow;
mod idle;
mod load;
mod machine;
mod measurement;
mod memory;
mod pages;
mod plan;
mod post;
mod provider;
mod raw;
mod rebuild;
mod report;
mod rows;
mod see;
mod socket;
mod stack;
mod subscribers;
mod system;
mod target;
mod webhooks;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use clap::Args;
use tokio::time::timeout;

use measurement::Measurement;
use plan::Plan;
use report::Report;
use system::System;

/// Requests under way at the same time, in closed loops.
const IN_FLIGHT: [usize; 2] = [1, 64];
/// Seconds and rounds, in full and for a quick look.
const FULL: (u64, u32) = (20, 3);
const QUICK: (u64, u32) = (3, 1);
/// A measurement that takes three times as long as it should, and so much longer, has failed.
const PATIENCE: Duration = Duration::from_secs(600);
/// Envelopes on the log that is rebuilt, in full.
const REBUILD_EVENTS: usize = 50_000;

/// Flags of `chat4all bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo run --release -p chat4all-cli -- bench                       everything, well over half an hour
  chat4all bench --only accept,see --seconds 20 --rounds 3           some of it
  chat4all bench --only rebuild --rebuild-events 1000000             the log of a million events, many minutes
  chat4all bench --quick                                             everything for a look, some six minutes
  chat4all bench --only accept --quick --json                        for a program
  chat4all bench --env .chat4all/env --only accept,see               a system that runs, such as that of `make run`

Measure a release build, on a machine that does nothing else. Progress goes to standard error, the table to standard output.
With --env, messages and conversations are made on that system and stay there.
Exit code: 0 everything was measured, whether aims are met or missed; 1 something failed, and the rest was measured.")]
pub struct BenchCommand {
    /// What to measure; everything when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measurement>,
    /// How long each run is measured, in seconds [default: 20].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: Option<u64>,
    /// How often each is repeated; the table has the median, the least and the most [default: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// One round of three seconds unless said otherwise, with a tenth of the rows, events and connections.
    #[arg(long)]
    quick: bool,
    /// How many events (envelopes) the log of the rebuild has, at least [default: 50000].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rebuild_events: Option<u64>,
    /// Measure the system that this file describes instead of one of its own: lines `export NAME='value'`, as `chat4all up`
    /// writes them to `.chat4all/env`.
    #[arg(long, value_name = "FILE")]
    env: Option<PathBuf>,
    /// Where that system takes commands, if not where the file says.
    #[arg(long, value_name = "URL", requires = "env")]
    url: Option<String>,
    /// Where it answers queries, if not where the file says.
    #[arg(long, value_name = "URL", requires = "env")]
    query_url: Option<String>,
    /// Where it takes webhooks, if not where it takes commands.
    #[arg(long, value_name = "URL", requires = "env")]
    webhooks_url: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

impl BenchCommand {
    fn plan(&self) -> anyhow::Result<Plan> {
        let (seconds, rounds) = if self.quick { QUICK } else { FULL };
        let running = match &self.env {
            Some(file) => Some(System::read(file)?.at(
                self.url.as_deref(),
                self.query_url.as_deref(),
                self.webhooks_url.as_deref(),
            )),
            None => None,
        };
        let plan = Plan {
            time: Duration::from_secs(self.seconds.unwrap_or(seconds)),
            rounds: self.rounds.unwrap_or(rounds),
            quick: self.quick,
            rebuild_events: 0,
            running,
        };
        let scaled = plan.scaled(REBUILD_EVENTS) as u64;
        let rebuild_events = self.rebuild_events.unwrap_or(scaled);
        Ok(Plan {
            rebuild_events,
            ..plan
        })
    }
}

/// Measures, and prints what came out.
///
/// # Errors
/// The command cannot be done as it was given. What fails while it is measured is in the report, and in the exit code.
pub async fn run(command: &BenchCommand) -> anyhow::Result<ExitCode> {
    let plan = command.plan()?;
    if plan.running.is_none() {
        nothing_is_set()?;
    }
    let mut report = Report::begin((plan.time.as_secs(), plan.rounds, plan.quick));
    let all = Measurement::all();
    let wanted = all.filter(|one| command.only.is_empty() || command.only.contains(one));
    let mut able = Vec::new();
    for one in wanted {
        match one.needs_its_own().filter(|_| plan.running.is_some()) {
            None => able.push(one),
            // Whoever asked for it by name is to know at once.
            Some(why) => {
                ensure!(
                    command.only.is_empty(),
                    "{one} cannot be measured on a running system: {why}; leave --env out"
                );
                report.left_out(one.name(), why);
            }
        }
    }
    let estimate: Duration = able.iter().map(|one| one.takes(&plan)).sum();
    progress(format_args!(
        "{} measurements, {} rounds of {} s: about {} minutes",
        able.len(),
        plan.rounds,
        plan.time.as_secs(),
        estimate.as_secs().div_ceil(60)
    ));
    for one in able {
        let limit = one.takes(&plan) * 3 + PATIENCE;
        let measured = timeout(limit, one.measure(&plan, &mut report)).await;
        let hangs = || anyhow!("no end after {} minutes", limit.as_secs().div_ceil(60));
        if let Err(error) = measured.map_err(|_| hangs()).flatten() {
            report.failed(one.name(), &error);
        }
    }
    report.print(command.json)?;
    Ok(match report.is_whole() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Variables of ours would reach the stack, and it would be another one's.
fn nothing_is_set() -> anyhow::Result<()> {
    let set = std::env::vars_os().find_map(|(name, _)| {
        let name = name.to_str()?.to_owned();
        (name.starts_with("CHAT4ALL_") && name != "CHAT4ALL_TOOLS").then_some(name)
    });
    if let Some(name) = set {
        bail!(
            "{name} is set; the defaults are measured, so unset every CHAT4ALL_ variable (`env -i PATH=\"$PATH\" …`), or name \
             the system to measure with --env"
        );
    }
    Ok(())
}

fn progress(text: impl std::fmt::Display) {
    crate::tool::note(text);
}
