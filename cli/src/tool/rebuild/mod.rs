//! `chat4all rebuild`: the read models anew, beside the live ones, and then in their place.

mod outcome;
mod report;

use std::future::Future;
use std::num::NonZero;
use std::process::ExitCode;

use anyhow::Context as _;
use chat4all_projector::rebuild::{self, Differences, Outcome, Purpose, Replaced};
use clap::Args;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Common, about, database, note, open_log};
use crate::up::Signals;

/// The live tables differ from what the log says, and stay.
const DIFFERENT: u8 = 3;
/// It was asked to stop, and did.
const STOPPED: u8 = 130;

/// Flags of `chat4all rebuild`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all rebuild                        make them anew, compare, swap if they are equal; names the rows that are not
  chat4all rebuild --accept-differences   swap although rows differ: after a repair, or for events that can be read now
  chat4all rebuild --compare-only         is every row what the log says? Changes nothing
  chat4all rebuild --json | jq -c .       one line per second, and one at the end

Projectors and readers go on all the time; projectors wait for a moment while the names are swapped. Ctrl-C, or a kill,
leaves the live tables as they are. Who starts it a second time waits, and finds it done. Disk: about as much again as
the read models have, until the end.

Exit code: 0 done (or equal), 1 failed, 3 rows differ and nothing was changed, 130 stopped.")]
pub struct RebuildCommand {
    #[command(flatten)]
    common: Common,
    /// Swap although live rows differ from what the log says.
    #[arg(long, conflicts_with = "compare_only")]
    accept_differences: bool,
    /// Only compare; nothing is swapped.
    #[arg(long, visible_alias = "dry-run")]
    compare_only: bool,
    /// Keep the tables that were live, in the schema chat4all_old.
    #[arg(long, conflicts_with = "compare_only")]
    keep_old: bool,
    /// Partitions folded at a time.
    #[arg(long, value_name = "N", default_value_t = NonZero::new(4).expect("4 is not 0"))]
    workers: NonZero<usize>,
    /// Events per transaction, at most.
    #[arg(long, value_name = "N", default_value_t = NonZero::new(20_000).expect("20,000 is not 0"))]
    batch: NonZero<usize>,
    /// Show every partition.
    #[arg(long, short)]
    verbose: bool,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Rebuilds, says how it goes, and returns the honest exit code.
///
/// # Errors
/// There are no new tables; the live ones are as they were, unless it says otherwise.
pub async fn run(command: &RebuildCommand) -> anyhow::Result<ExitCode> {
    let config = command.common.load()?.config;
    // Shown to whoever starts it a second time.
    let name = format!("rebuild, pid {}", std::process::id());
    let postgres = database(&config, &name)?;
    // Said with its place before anything is begun.
    let connecting = postgres.connect().await;
    drop(connecting.with_context(|| about(&postgres))?);
    let rebuilding = rebuild::Config {
        log: open_log(&config, "rebuild").await?,
        postgres,
        poison: config.projector.poison,
        batch: command.batch.get(),
        workers: command.workers.get(),
        purpose: command.purpose(),
    };
    let (tell, told) = watch::channel(rebuild::Progress::default());
    let stop = CancellationToken::new();
    // On the heap: it holds batches.
    let work = Box::pin(rebuild::run(rebuilding, tell, stop.clone()));
    let report = report::Report::new(told, report::Form::of(command));
    let outcome = until_stopped(work, report.clone().keep_telling(), stop).await?;
    outcome::tell(&outcome, &report, command.json)?;
    Ok(match &outcome {
        Outcome::Swapped(_) | Outcome::DoneByAnother => ExitCode::SUCCESS,
        Outcome::Compared(comparison) if comparison.is_equal() => ExitCode::SUCCESS,
        Outcome::Compared(_) | Outcome::Refused(_) => ExitCode::from(DIFFERENT),
        Outcome::Stopped => ExitCode::from(STOPPED),
    })
}

/// Works while `telling`; the first signal asks to stop, a second one ends the process where it stands.
async fn until_stopped(
    work: impl Future<Output = Result<Outcome, rebuild::Error>>,
    telling: impl Future<Output = anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen().context("cannot listen for Ctrl-C")?;
    tokio::pin!(work, telling);
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut work => return Ok(ended?),
            // That nobody listens keeps nobody from finishing.
            _ = &mut telling, if !told => told = true,
            signal = signals.next() => {
                if stop.is_cancelled() {
                    anyhow::bail!("cut off by a second {signal}; the next rebuild clears away what is left");
                }
                note(format_args!("{signal}: stopping; the live tables stay as they are"));
                stop.cancel();
            }
        }
    }
}

impl RebuildCommand {
    fn purpose(&self) -> Purpose {
        if self.compare_only {
            return Purpose::Compare;
        }
        Purpose::Swap {
            differences: match self.accept_differences {
                true => Differences::Accept,
                false => Differences::Refuse,
            },
            replaced: match self.keep_old {
                true => Replaced::Keep,
                false => Replaced::Drop,
            },
        }
    }
}
