//! nats-server and Postgres as children of this process.
//!
//! `chat4all up` runs them for development, whole-system tests run one set each in a directory of their own
//! ([`temp_dir`]). Every server listens on 127.0.0.1 only. What is started here is gone when the handle is dropped,
//! when the process ends, and when it is killed with `kill -9` ([`crate::guard`]).
//!
//! A handle can do to its server what fate can do: [`Nats::stop`] (graceful), `kill` (`SIGKILL`), `restart` (same
//! port, same directory), `suspend` and `resume` (`SIGSTOP`, `SIGCONT`: it hangs, connections stay open).
//!
//! No accounts, no TLS, no passwords: whoever has a shell on this machine can reach them.

mod cluster;
mod directory;
mod error;
mod log_file;
mod nats;
mod nats_config;
mod port;
mod postgres;
mod postgres_data;
mod postgres_home;
mod process;
mod process_table;
mod tools;

pub use cluster::{ClusterOptions, NatsCluster};
pub use directory::temp_dir;
pub use error::{StartError, StopError};
pub use log_file::{open as open_log, tail as log_tail};
pub use nats::{Nats, NatsOptions};
pub use port::Port;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Launch, Process, chat4all_program};
pub use process_table::{children_of, is_running, until_stopped, user_of};
pub use tools::{NatsTools, PostgresTools};
