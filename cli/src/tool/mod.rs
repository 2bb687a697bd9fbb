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

use std::path::PathBuf;

use chat4all_service::Config;
use chat4all_service::config::{Loaded, Sources};
use clap::Args;

pub use run::{CtrlC, Unheard, complain, line, main, note, say};
pub use servers::{
    about, broker, broker_config, broker_later, database, layout, nats_place, open_log,
};

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
