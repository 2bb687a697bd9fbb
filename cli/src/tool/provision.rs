//! `chat4all provision`: makes on the broker and in the database what is missing, and tells what differs.

use anyhow::Context as _;
use chat4all_nats::Log;
use chat4all_nats::streams::Report;
use chat4all_postgres as postgres;
use chat4all_service::Config;
use clap::Args;

use super::{Common, about, broker, database, layout, line};

/// Flags of `chat4all provision`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all provision            before the first start of any role, and after an upgrade; harmless at any time
  chat4all provision --json

Nothing that exists is changed. A log that was made for another number of partitions is refused.")]
pub struct ProvisionCommand {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Makes what is missing and prints it.
///
/// # Errors
/// A server is away or refuses, or the log is not the one the configuration describes.
pub async fn run(command: &ProvisionCommand) -> anyhow::Result<()> {
    let config = command.common.load()?.config;
    let report = provision(&config).await?;
    if command.json {
        line(as_json(&report))?;
        return Ok(());
    }
    tell(&report)
}

/// Makes what is missing.
///
/// # Errors
/// As [`run`].
pub async fn provision(config: &Config) -> anyhow::Result<Report> {
    let client = broker(config, "provision").await?;
    let (_, report) = Log::provision(client, &layout(config)).await?;
    let database = database(config, "provision")?;
    let migrated = postgres::migrate::migrate(&database).await;
    migrated.with_context(|| about(&database))?;
    Ok(report)
}

/// What was done, for programs.
pub fn as_json(report: &Report) -> serde_json::Value {
    let drift = report.drift.iter().map(|drift| {
        serde_json::json!({
            "stream": drift.stream, "setting": drift.setting, "wanted": drift.wanted, "found": drift.found,
        })
    });
    let drift: Vec<_> = drift.collect();
    serde_json::json!({ "created": report.created, "drift": drift })
}

/// Prints what was done.
///
/// # Errors
/// Standard output is closed.
pub fn tell(report: &Report) -> anyhow::Result<()> {
    if !report.created.is_empty() {
        line(format_args!("created    {}", report.created.join(" ")))?;
    }
    for drift in &report.drift {
        line(format_args!(
            "differs    {}: {} is {}, this configuration would make it {}; left as it is",
            drift.stream, drift.setting, drift.found, drift.wanted
        ))?;
    }
    line("provisioned: the log and the read models are ready")?;
    Ok(())
}
