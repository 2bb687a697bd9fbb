//! The one binary of Chat4All, as a library: its commands, and the servers it can run by itself.
//!
//! - [`args`]: the command line, one variant per command.
//! - [`up`]: `chat4all up`, everything on one machine under one supervisor.
//! - [`embedded`]: nats-server and Postgres as children of this process; whole-system tests use it too.
//! - [`roles`]: the roles as processes.
//! - [`mod@bench`]: how fast it is, against what the machine can do.
//! - [`tool`]: the commands of operators and developers.
//! - [`guard`]: the hidden command that ties a child's life to its parent's.
#![warn(missing_docs)]

pub mod args;
pub mod bench;
pub mod embedded;
pub mod guard;
pub mod roles;
pub mod tool;
pub mod up;
