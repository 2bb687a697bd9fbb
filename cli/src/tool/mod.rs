//! The operator's and developer's commands: each reads the configuration, does one thing, and prints it for people or,
//! with `--json`, for programs.

pub mod backup;
pub mod channels;
pub mod config;
pub mod dlq;
pub mod doctor;
pub mod lag;
pub mod log;
pub mod provision;
pub mod rebuild;
pub mod restore;
mod run;
pub mod send;
mod servers;
pub mod simulator;
pub mod token;
mod who;

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::anyhow;
use chat4all_service::Config;
use chat4all_service::config::{Error, Loaded, Mistake, Origin, Sources};
use clap::Args;

pub use run::{CtrlC, Unheard, complain, line, main, note, say};
pub use servers::{
    FROM_UP, about, broker, broker_config, broker_later, database, layout, nats_place, open_log,
};
pub use who::{parse_name, who};

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
        let loaded = Config::load(&Sources::of_process(self.config.as_deref())?);
        loaded.map_err(|error| match lacks_something(&error) {
            true => anyhow!("{error}\n{FROM_UP}"),
            false => error.into(),
        })
    }
}

/// Whether something is not set that has no default.
fn lacks_something(error: &Error) -> bool {
    let Error::Mistakes(mistakes) = error else {
        return false;
    };
    mistakes.0.iter().any(|mistake| match mistake {
        Mistake::Value { origin, .. } => *origin == Origin::Default,
        Mistake::Unknown { .. } | Mistake::Pair { .. } => false,
    })
}

/// How many of something, as a flag has it.
///
/// # Errors
/// What would be right.
pub fn parse_limit(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(limit @ 1..) => Ok(limit),
        Ok(0) | Err(_) => Err("expected a whole number, at least 1"),
    }
}

/// An id as a flag has it. What was given instead the library says by itself.
///
/// # Errors
/// What would be right.
pub fn parse_id<T: FromStr>(text: &str) -> Result<T, &'static str> {
    let wrong = |_| "expected a UUID such as 0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";
    text.parse().map_err(wrong)
}
