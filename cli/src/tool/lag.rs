//! `chat4all lag`: how far the readers are behind the log.

use std::time::Duration;

use chat4all_domain::Partition;
use chat4all_nats::Log;
use chat4all_postgres::checkpoint;
use chat4all_service::clock;
use clap::Args;
use futures::TryStreamExt as _;
use serde::Serialize;
use tokio::time::Instant;

use super::{Common, line, open_log};
use crate::roles::database;

/// How long one question to the log may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags of `chat4all lag`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all lag              one line per reader and partition
  chat4all lag --json | jq 'map(.behind) | add'

Read models are measured by their checkpoints in Postgres, other readers by what they have acknowledged.
The same with the nats CLI: nats consumer report EVT-07")]
pub struct LagCommand {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    reader: String,
    partition: String,
    /// The last event that has had its effect; 0 for none.
    at: u64,
    /// The last event there is.
    end: u64,
    /// Events in between.
    behind: u64,
    /// How long ago the last one that had its effect was recorded, while there are more.
    seconds: Option<i64>,
}

/// Prints how far every reader is.
///
/// # Errors
/// The log or the database does not answer.
pub async fn run(command: &LagCommand) -> anyhow::Result<()> {
    let config = command.common.load()?.config;
    let log = open_log(&config, "lag").await?;
    let mut connection = database(&config, "lag")?.connect().await?;
    let checkpoints = checkpoint::read(&mut connection).await?;
    let mut rows = Vec::new();
    for partition in log.partitions().all() {
        let end = log
            .last_sequence(partition, Instant::now() + READ_TIMEOUT)
            .await?;
        let checkpoint = checkpoints.get(&partition);
        let at = checkpoint.map_or(0, |checkpoint| checkpoint.sequence);
        let recorded = checkpoint.and_then(|checkpoint| checkpoint.recorded_at);
        let seconds = recorded.filter(|_| at < end).map(|recorded| {
            (clock::now() - recorded.to_datetime())
                .whole_seconds()
                .max(0)
        });
        let row = |reader: String, at, seconds| Row {
            reader,
            partition: partition.to_string(),
            at,
            end,
            behind: end.saturating_sub(at),
            seconds,
        };
        rows.push(row("read models".to_owned(), at, seconds));
        for (name, at) in other_readers(&log, partition).await? {
            rows.push(row(name, at, None));
        }
    }
    if command.json {
        line(serde_json::to_string(&rows)?)?;
        return Ok(());
    }
    line("partition  reader                          at         end      behind  seconds")?;
    for row in rows {
        let seconds = row
            .seconds
            .map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
        line(format_args!(
            "{:<9}  {:<24}  {:>8}  {:>10}  {:>10}  {seconds:>7}",
            row.partition, row.reader, row.at, row.end, row.behind
        ))?;
    }
    Ok(())
}

/// The durables that say themselves how far they are: bridges. Projectors' are measured by their checkpoints.
async fn other_readers(log: &Log, partition: Partition) -> anyhow::Result<Vec<(String, u64)>> {
    let mut readers = Vec::new();
    let mut consumers = log.stream(partition).consumers();
    while let Some(info) = consumers.try_next().await? {
        let lasting =
            info.config.durable_name.is_some() && info.config.inactive_threshold.is_zero();
        if lasting && !info.name.starts_with("projector-") {
            readers.push((info.name, info.ack_floor.stream_sequence));
        }
    }
    readers.sort();
    Ok(readers)
}
