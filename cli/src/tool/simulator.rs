//! `chat4all simulator`: plays the providers.

use anyhow::Context as _;
use chat4all_simulator::{Args, Simulator};
use tokio::signal::unix::{SignalKind, signal};

use super::line;

/// Flags of `chat4all simulator`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chat4all simulator --listen 127.0.0.1:4600             then a business number, and a message to its customer's phone:
    curl -X PUT http://127.0.0.1:4600/_sim/accounts/106540352242922 -d '{\"display_phone_number\": \"+49 30 242922\",
      \"waba_id\": \"1\", \"token\": \"dev\", \"app_secret\": \"dev\", \"verify_token\": \"dev\", \"webhook_url\": null}'
    curl http://127.0.0.1:4600/v25.0/106540352242922/messages -H 'Authorization: Bearer dev' -d '{\"to\": \"4915112345678\",
      \"messaging_product\": \"whatsapp\", \"type\": \"text\", \"text\": {\"body\": \"hello\"}}'
  chat4all simulator --config simulator.json --seed 7    accounts and settings from a file; the same draws every time
  chat4all simulator --json | jq -r .url                 the first line says where it is

Open its address in a browser: the customer's phone, with a box to answer. Faults: POST /_sim/faults; what was received:
GET /_sim/calls. `chat4all up` starts one by itself. Ends with Ctrl-C or SIGTERM; everything is in memory.")]
pub struct SimulatorCommand {
    /// What it plays, and where.
    #[command(flatten)]
    pub args: Args,
    /// Print where it is as JSON.
    #[arg(long)]
    json: bool,
}

/// Serves until Ctrl-C or SIGTERM, and says where.
///
/// # Errors
/// The flags or the file are wrong, or the address is taken.
pub async fn run(command: SimulatorCommand) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let running = Simulator::start(command.args.into_config()?).await?;
    let (url, seed) = (running.url(), running.seed);
    if command.json {
        line(serde_json::json!({ "url": url, "seed": seed }))?;
    } else {
        line(format_args!(
            "simulator  {url} (in a browser: the customer's phone), seed {seed}"
        ))?;
    }
    tokio::select! {
        ended = running.ended() => Ok(ended?),
        _ = terminate.recv() => Ok(()),
    }
}
