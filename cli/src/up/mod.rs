//! `chat4all up`: everything on one machine, under one supervisor.
//!
//! Starts nats-server and Postgres (or uses those given by URL), makes the log and the read models on them, starts the
//! roles, sends a first message through all of it, and keeps everything running until Ctrl-C. Guarantees:
//! - one `up` per directory, by a lock that cannot be left behind;
//! - a child that dies is started again on the same port and data, and this is said aloud;
//! - Ctrl-C stops everything in order and exits 0; a second one kills; an unclean stop exits 1;
//! - whatever happens to `up`, `kill -9` included, no child stays.

mod addresses;
mod directory;
mod first;
mod part;
mod phone;
mod secrets;
mod servers;
mod settings;
mod signals;
mod supervise;
mod tell;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

pub use addresses::Addresses;
pub use settings::DEVELOPER;
pub use signals::Signals;

use crate::roles::Role;
use crate::tool;
use directory::Directory;
use part::{Part, PartProcess};
use serde_json::json;
use servers::{Server, Servers};
use tell::Tell;

/// The simulator's port is looked for from so far above the roles' on.
const SIMULATOR_PORT_OFFSET: u16 = 20;

/// Flags of `chat4all up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all up                                  everything here, data in .chat4all/
  . .chat4all/env                              in another shell: the addresses as variables
  UP_EXIT=1 chat4all up                        start, do the start-up work, stop; for checks
  UP_EXIT=1 chat4all up --json | jq -c '{step, ms}'   how long the first message took to each of its steps
  CHAT4ALL_POSTGRES__URL=postgres://… chat4all up   with a Postgres of your own

Files: .chat4all/env (addresses, secrets and a token), .chat4all/secrets (keep it with the log), .chat4all/log/*.log (the servers' logs), .chat4all/nats and .chat4all/postgres (data).
To begin anew, stop it and remove .chat4all/.")]
pub struct Up {
    /// Where data, logs and addresses are kept.
    #[arg(long, default_value = ".chat4all")]
    pub dir: PathBuf,
    /// A process for each role, instead of one for all of them.
    #[arg(long)]
    pub split: bool,
    /// First port to try for HTTP; the next free one is taken.
    #[arg(long, default_value_t = 8080)]
    pub http_port: u16,
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
    /// Print JSON: one object per line for each step.
    #[arg(long)]
    pub json: bool,
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
    let tell = Tell { json: up.json };
    let mut signals = signals::Signals::listen().context("cannot listen for signals")?;
    let directory = directory::Directory::take(&up.dir)?;
    let (system, servers) = tokio::select! {
        started = start(up, &directory) => started?,
        signal = signals.next() => anyhow::bail!("stopped by {signal} while starting"),
    };
    let supervisor = supervise::Supervisor::start(servers, tell);
    let ended = tokio::select! {
        done = work(up, &system) => done,
        signal = signals.next() => {
            let more = json!({ "signal": signal });
            tell.step("stopping", more, format_args!("{signal}: stopping"));
            Ok(())
        }
    };
    tokio::select! {
        stopped = supervisor.stop() => stopped.and(ended),
        signal = signals.next() => anyhow::bail!("{signal} again: everything was killed"),
    }
}

/// What was started, as its user needs to know it.
struct System {
    addresses: Addresses,
    token: String,
    env: PathBuf,
}

/// Starts the servers, makes what is missing on them, and starts the roles.
async fn start(up: &Up, directory: &Directory) -> anyhow::Result<(System, Servers)> {
    let secrets = secrets::Secrets::of(directory)?;
    let mut servers = Servers::start(up, directory).await?;
    let likely = format!("http://127.0.0.1:{}", up.http_port);
    phone::before_the_bridges(directory, &secrets, &likely)?;
    let port = up.http_port.saturating_add(SIMULATOR_PORT_OFFSET);
    let simulator = PartProcess::start(Part::Simulator, port, directory, &[]).await?;
    let simulator_url = simulator.url();
    servers.own.insert(0, Server::Part(simulator));
    let settings = settings::variables(&servers, &simulator_url, &secrets);
    let config = settings::config(&settings)?;
    let provisioned = tool::provision::provision(&config).await?;
    if up.json {
        let more = tool::provision::as_json(&provisioned);
        Tell { json: true }.step("provisioned", more, "");
    } else {
        tool::provision::tell(&provisioned)?;
    }
    // The first takes commands, the second answers queries, the last is called back by the provider.
    let roles: &[Role] = match up.split {
        true => &[
            Role::CommandApi,
            Role::QueryApi,
            Role::Projector,
            Role::Bridges,
        ],
        false => &[Role::All],
    };
    let mut urls = Vec::new();
    let mut port = up.http_port;
    for role in roles {
        let started = PartProcess::start(Part::Role(*role), port, directory, &settings).await?;
        port = started.port() + 1;
        urls.push(started.url());
        // In front of the servers they use: they stop before them.
        servers.own.insert(0, Server::Part(started));
    }
    phone::with_account(directory, &secrets, &simulator_url, &urls[urls.len() - 1]).await?;
    let queries = urls.get(1).unwrap_or(&urls[0]).clone();
    let addresses = servers.addresses(urls[0].clone(), queries, simulator_url);
    let token = settings::token(&config, &secrets);
    directory.write_env(&for_a_shell(&settings, &addresses, &token))?;
    let env = up.dir.join("env");
    Ok((
        System {
            addresses,
            token,
            env,
        },
        servers,
    ))
}

/// Everything that commands in another shell need.
fn for_a_shell(
    settings: &[(String, String)],
    addresses: &Addresses,
    token: &str,
) -> Vec<(String, String)> {
    let more = [
        ("CHAT4ALL_URL", addresses.commands.clone()),
        ("CHAT4ALL_QUERY_URL", addresses.queries.clone()),
        ("CHAT4ALL_SIMULATOR_URL", addresses.simulator.clone()),
        ("CHAT4ALL_TOKEN", token.to_owned()),
        // So that `up` in a shell that sourced this starts its own servers again.
        ("CHAT4ALL_UP_STARTED", addresses.started.join(" ")),
    ];
    let more = more.map(|(name, value)| (name.to_owned(), value));
    settings.iter().cloned().chain(more).collect()
}

/// The first message, and then whatever runs until the end.
async fn work(up: &Up, system: &System) -> anyhow::Result<()> {
    let tell = Tell { json: up.json };
    let first = first::message(&system.addresses, &system.token, &system.env, tell).await;
    if up.exit {
        return first.map(drop);
    }
    // Somebody may have paused the account, or the log may be full: who is to mend that needs a system that runs.
    let first = match first {
        Ok(conversation) => Some(conversation),
        Err(error) => {
            let why = format!("{error:#}");
            let more = json!({ "error": why });
            let log = up.dir.join("log");
            let said = format!(
                "{why}; everything runs, `chat4all doctor` says more, and {}",
                log.display()
            );
            tell.trouble("not_read", more, said);
            None
        }
    };
    let Addresses {
        nats,
        commands,
        queries,
        simulator,
        ..
    } = &system.addresses;
    if !up.json {
        first::what_to_try(&system.addresses, &system.env, first.as_deref());
    }
    let more = json!({
        "commands": commands, "queries": queries, "phone": simulator,
        "nats": addresses::without_password(nats),
        "postgres": system.addresses.postgres_without_password(), "env": system.env,
    });
    tell.step("running", more, "running; Ctrl-C stops everything");
    std::future::pending().await
}
