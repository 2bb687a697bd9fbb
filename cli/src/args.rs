//! The command line.

use clap::{Parser, Subcommand};

use crate::{guard, up};

/// Chat4All: messages in, messages out, over every channel.
#[derive(Debug, Parser)]
#[command(name = "chat4all", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One variant per command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: the servers and all roles, until Ctrl-C.
    Up(up::Up),
    /// Run a program that dies with its parent. For our own use.
    #[command(hide = true)]
    Guard(guard::Guard),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
