//! `chat4all lag`: how far the readers are behind the log.

mod durables;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_nats::Log;
use chat4all_postgres::checkpoint::{self, Checkpoint};
use chat4all_service::{Chain, clock};
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::{Common, about, database, line, note, open_log};

/// How long one question to the log may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Postgres was not asked, so the read models are missing.
const INCOMPLETE: u8 = 3;

/// Flags of `chat4all lag`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all lag              one line per reader and partition
  chat4all lag --json | jq 'map(.behind // 0) | add'

Read models are measured by their checkpoints in Postgres; bridges and the inbound readers by what the broker still has for
them. `-` is what is not known: of a reader that has never run, or of the read models while Postgres does not answer.
The same with the nats CLI: nats consumer report EVT-07
Exit code: 0 everything was measured, 1 the broker did not answer, 3 Postgres did not: all but the read models is shown.")]
pub struct LagCommand {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One reader of one stream.
#[derive(Debug, Serialize)]
struct Row {
    reader: String,
    /// `None` for a reader of what came in, which has none.
    partition: Option<String>,
    /// Everything up to here has had its effect; 0 for nothing.
    at: Option<u64>,
    /// The last one there is.
    end: u64,
    /// How many are still to come to it.
    behind: Option<u64>,
    /// How long ago the last event that had its effect was recorded, while there are more.
    seconds: Option<i64>,
}

/// Prints how far every reader is.
///
/// # Errors
/// The log does not answer. That Postgres does not is said, and is an exit code.
pub async fn run(command: &LagCommand) -> anyhow::Result<ExitCode> {
    let config = command.common.load()?.config;
    let log = open_log(&config, "lag").await?;
    let postgres = database(&config, "lag")?;
    let checkpoints = checkpoints(&postgres).await;
    let mut rows = Vec::new();
    for partition in log.partitions().all() {
        let end = end_of(&log, partition).await?;
        let known = checkpoints.as_ref().ok();
        rows.push(read_models(
            partition,
            end,
            known.map(|all| all.get(&partition)),
        ));
        rows.extend(durables::bridges(&log, &config, partition, end).await?);
    }
    rows.extend(durables::inbound(&log, &config).await?);
    tell(&rows, command.json)?;
    Ok(match checkpoints {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!(
                "chat4all lag: the read models are not measured: {}: {}",
                about(&postgres),
                Chain(&error)
            ));
            ExitCode::from(INCOMPLETE)
        }
    })
}

async fn checkpoints(
    postgres: &chat4all_postgres::Config,
) -> Result<BTreeMap<Partition, Checkpoint>, sqlx::Error> {
    checkpoint::read(&mut postgres.connect().await?).await
}

async fn end_of(log: &Log, partition: Partition) -> anyhow::Result<u64> {
    let deadline = Instant::now() + READ_TIMEOUT;
    Ok(log.last_sequence(partition, deadline).await?)
}

/// `checkpoint`: `None` when Postgres was not asked, `Some(None)` when nothing was folded yet.
fn read_models(partition: Partition, end: u64, checkpoint: Option<Option<&Checkpoint>>) -> Row {
    let at = checkpoint.map(|found| found.map_or(0, |checkpoint| checkpoint.sequence));
    let recorded = checkpoint
        .flatten()
        .and_then(|checkpoint| checkpoint.recorded_at);
    let seconds = recorded
        .filter(|_| at.is_some_and(|at| at < end))
        .map(|recorded| (clock::now() - recorded.to_datetime()).whole_seconds())
        .map(|seconds| seconds.max(0));
    Row {
        reader: "read models".to_owned(),
        partition: Some(partition.to_string()),
        at,
        end,
        behind: at.map(|at| end.saturating_sub(at)),
        seconds,
    }
}

fn tell(rows: &[Row], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        line(serde_json::to_string(rows)?)?;
        return Ok(());
    }
    let known = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    line("partition  reader                          at         end      behind  seconds")?;
    for row in rows {
        line(format_args!(
            "{:<9}  {:<24}  {:>8}  {:>10}  {:>10}  {:>7}",
            row.partition.as_deref().unwrap_or("-"),
            row.reader,
            known(row.at.map(|at| at.to_string())),
            row.end,
            known(row.behind.map(|behind| behind.to_string())),
            known(row.seconds.map(|seconds| seconds.to_string())),
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_a_number() {
        let partition = Partition::new(3).unwrap();
        let unknown = read_models(partition, 7, None);
        assert_eq!((unknown.at, unknown.behind), (None, None));
        let nothing_yet = read_models(partition, 7, Some(None));
        assert_eq!((nothing_yet.at, nothing_yet.behind), (Some(0), Some(7)));
    }
}
