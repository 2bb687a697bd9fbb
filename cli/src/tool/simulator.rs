//! `chat4all simulator`: plays the providers.

use anyhow::Context as _;
use chat4all_simulator::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Serves until Ctrl-C or SIGTERM.
///
/// # Errors
/// The flags or the file are wrong, or the address is taken.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let config = args.into_config()?;
    tokio::select! {
        ended = chat4all_simulator::run(config, stop.clone()) => Ok(ended?),
        _ = terminate.recv() => Ok(()),
    }
}
