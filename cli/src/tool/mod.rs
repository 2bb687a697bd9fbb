//! The operator's and developer's commands: each reads the configuration, does one thing, and prints it for people or,
//! with `--json`, for programs.

pub mod backup;
pub mod config;
pub mod doctor;
pub mod lag;
pub mod log;
pub mod provision;
pub mod rebuild;
pub mod restore;
pub mod send;
pub mod simulator;
pub mod token;

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chat4all_domain::PartitionCount;
use chat4all_nats::connect::{self, Login};
use chat4all_nats::streams::Layout;
use chat4all_nats::{Client, Log};
use chat4all_service::Config;
use chat4all_service::config::{Loaded, Sources};
use clap::Args;
use secrecy::ExposeSecret as _;

/// Flags that every command with a configuration has.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file (TOML). Variables `CHAT4ALL_…` win over it.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

impl Common {
    /// Everything that is set, checked.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        Ok(Config::load(&Sources::of_process(self.config.as_deref())?)?)
    }
}

/// Runs a command to its end, or until Ctrl-C; a failure is one readable line, and exit code 1.
pub fn main<F: Future<Output = anyhow::Result<()>>>(name: &str, command: F) -> ExitCode {
    let ended = tokio::runtime::Runtime::new().context("cannot start the runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                done = command => done,
                interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
            }
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed pipe (`| head`) is not worth a word.
            let closed = error.chain().any(|cause| {
                cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            });
            if closed {
                return ExitCode::SUCCESS;
            }
            eprintln!("chat4all {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As [`main`], for commands of which somebody must know that they came to their end: Ctrl-C is exit code 130, and a closed
/// pipe a failure like any other.
pub fn to_the_end<F: Future<Output = anyhow::Result<()>>>(name: &str, command: F) -> ExitCode {
    let ended = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")
        .and_then(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    done = command => done.map(|()| ExitCode::SUCCESS),
                    _ = tokio::signal::ctrl_c() => {
                        eprintln!("chat4all {name}: interrupted; it did not come to its end");
                        Ok(ExitCode::from(130))
                    }
                }
            })
        });
    ended.unwrap_or_else(|error| {
        eprintln!("chat4all {name}: {error:#}");
        ExitCode::FAILURE
    })
}

/// Writes one line. A closed pipe is an error that [`main`] understands.
pub fn line(text: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}

/// How the log is laid out, as the configuration says.
pub fn layout(config: &Config) -> Layout {
    let partitions = u8::try_from(config.log.partitions)
        .ok()
        .and_then(PartitionCount::new);
    Layout {
        partitions: partitions.expect("the configuration has checked 1 to 64"),
        replicas: config.nats.replicas,
        max_bytes: config.nats.max_bytes,
    }
}

/// A connection to the broker under `name`.
///
/// # Errors
/// Nobody answers.
pub async fn broker(config: &Config, name: &str) -> anyhow::Result<Client> {
    Ok(connect::connect(&broker_config(config, name)).await?)
}

/// A connection to the broker under `name`, made as soon as somebody answers there.
///
/// # Errors
/// The configuration cannot be used; never that nobody answers.
pub async fn broker_later(config: &Config, name: &str) -> anyhow::Result<Client> {
    Ok(connect::connect_later(&broker_config(config, name)).await?)
}

/// Where the broker is and who we are there: `name`, among what connects.
pub fn broker_config(config: &Config, name: &str) -> connect::Config {
    let nats = &config.nats;
    let urls: Vec<_> = nats.url.iter().map(url::Url::as_str).collect();
    let login = match (&nats.credentials_file, &nats.user, &nats.password) {
        (Some(file), ..) => Login::CredentialsFile(file.clone()),
        (None, Some(user), Some(password)) => {
            let (user, password) = (user.clone(), password.expose_secret().to_owned());
            Login::Password { user, password }
        }
        (None, ..) => Login::None,
    };
    let (ping_interval, name) = (
        nats.ping_interval_ms.duration(),
        format!("{}/{name}", nats.name),
    );
    connect::Config {
        login,
        ping_interval,
        ..connect::Config::new(urls.join(","), name)
    }
}

/// The log, opened.
///
/// # Errors
/// The broker is away, or the log is not there or another.
pub async fn open_log(config: &Config, name: &str) -> anyhow::Result<Log> {
    Ok(Log::open(broker(config, name).await?, &layout(config)).await?)
}
