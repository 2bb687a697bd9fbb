//! `chat4all up`: everything on one machine, under one supervisor.
//!
//! Starts nats-server and Postgres (or uses those given by URL), then does the start-up work on them, and keeps all
//! of it running until Ctrl-C. Guarantees:
//! - one `up` per directory, by a lock that cannot be left behind;
//! - a child that dies is started again on the same port and data, and this is said aloud;
//! - Ctrl-C stops everything in order and exits 0; a second one kills; an unclean stop exits 1;
//! - whatever happens to `up`, `kill -9` included, no child stays.

mod addresses;
mod directory;
mod provision;
mod servers;
mod signals;
mod supervise;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

pub use addresses::Addresses;

/// Flags of `chat4all up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all up                                  everything here, data in .chat4all/
  . .chat4all/env                              in another shell: the addresses as variables
  UP_EXIT=1 chat4all up                        start, do the start-up work, stop; for checks
  CHAT4ALL_POSTGRES__URL=postgres://… chat4all up   with a Postgres of your own

Files: .chat4all/env (addresses), .chat4all/log/*.log (the servers' logs), .chat4all/nats and .chat4all/postgres (data).
To begin anew, stop it and remove .chat4all/.")]
pub struct Up {
    /// Where data, logs and addresses are kept.
    #[arg(long, default_value = ".chat4all")]
    pub dir: PathBuf,
    /// First port to try for NATS; the next free one is taken.
    #[arg(long, default_value_t = 4222)]
    pub nats_port: u16,
    /// A NATS server to use instead of starting one.
    #[arg(
        long,
        env = "CHAT4ALL_NATS__URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub nats_url: Option<String>,
    /// A Postgres server to use instead of starting one.
    #[arg(
        long,
        env = "CHAT4ALL_POSTGRES__URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub postgres_url: Option<String>,
    /// Servers that an earlier `up` started, as its `env` file says: their URLs are not servers of your own.
    #[arg(long, env = "CHAT4ALL_UP_STARTED", hide = true, default_value = "")]
    pub started: String,
    /// Stop, with exit code 0, as soon as the start-up work is done.
    #[arg(long, env = "UP_EXIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub exit: bool,
}

/// Runs until a signal, and returns the exit code.
pub fn main(up: &Up) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chat4all up: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(up)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat4all up: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(up: &Up) -> anyhow::Result<()> {
    let mut signals = signals::Signals::listen().context("cannot listen for signals")?;
    let directory = directory::Directory::take(&up.dir)?;
    let servers = tokio::select! {
        started = servers::Servers::start(up, &directory) => started?,
        signal = signals.next() => anyhow::bail!("stopped by {signal} while starting"),
    };
    let addresses = servers.addresses();
    directory.write_env(&addresses)?;
    let supervisor = supervise::Supervisor::start(servers);
    let ended = tokio::select! {
        done = work(up, &addresses) => done,
        signal = signals.next() => { say(format_args!("{signal}: stopping")); Ok(()) }
    };
    tokio::select! {
        stopped = supervisor.stop() => stopped.and(ended),
        signal = signals.next() => anyhow::bail!("{signal} again: everything was killed"),
    }
}

/// The start-up work, and then whatever runs until the end.
async fn work(up: &Up, addresses: &Addresses) -> anyhow::Result<()> {
    provision::run(addresses).await?;
    if up.exit {
        return Ok(());
    }
    say(format_args!("running; Ctrl-C stops everything"));
    std::future::pending().await
}

/// Tells whoever watches. A closed terminal or pipe is no reason to stop.
fn say(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Tells it so that it is seen.
fn warn(line: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "!!! {line}");
}
