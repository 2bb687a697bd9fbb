//! `chat4all config`: what holds, and who said so.

use clap::Args;

use super::{Common, line};

/// Flags of `chat4all config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all config                       every setting that holds and where it comes from, secrets hidden
  chat4all config --json | jq '.[\"log.partitions\"]'
  chat4all config --config prod.toml    checks a file before anything is started with it")]
pub struct ConfigCommand {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the effective configuration, or every mistake in it.
///
/// # Errors
/// The mistakes.
pub async fn run(command: &ConfigCommand) -> anyhow::Result<()> {
    let loaded = command.common.load()?;
    let effective = loaded.effective();
    if command.json {
        line(serde_json::to_string_pretty(&effective.to_json())?)?;
    } else {
        line(effective)?;
    }
    Ok(())
}
