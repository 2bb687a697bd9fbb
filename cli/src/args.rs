//! The command line.

use clap::{Parser, Subcommand};

use crate::bench::BenchCommand;
use crate::roles::RoleCommand;
use crate::tool::backup::BackupCommand;
use crate::tool::channels::ChannelsCommand;
use crate::tool::config::ConfigCommand;
use crate::tool::dlq::DlqCommand;
use crate::tool::doctor::DoctorCommand;
use crate::tool::lag::LagCommand;
use crate::tool::log::LogCommand;
use crate::tool::provision::ProvisionCommand;
use crate::tool::rebuild::RebuildCommand;
use crate::tool::restore::RestoreCommand;
use crate::tool::send::SendCommand;
use crate::tool::simulator::SimulatorCommand;
use crate::tool::token::TokenCommand;
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
    /// Run every role in this process, on servers that run elsewhere.
    All(RoleCommand),
    /// Take commands in over HTTP and append events.
    CommandApi(RoleCommand),
    /// Fold events into the read models.
    Projector(RoleCommand),
    /// Answer GraphQL and REST reads from the read models.
    QueryApi(RoleCommand),
    /// Deliver to the providers, and take in what they call back with.
    Bridges(RoleCommand),
    /// Play the providers: the WhatsApp Cloud API, with fault knobs and a page that looks like the customer's phone.
    Simulator(SimulatorCommand),
    /// Make on the broker and in the database what is missing.
    Provision(ProvisionCommand),
    /// Send one message and, with --watch, see what becomes of it.
    Send(SendCommand),
    /// Read the log, or follow it.
    Log(LogCommand),
    /// Show how far the readers are behind the log.
    Lag(LagCommand),
    /// See how the channel accounts are doing; stop one, let it go on.
    Channels(ChannelsCommand),
    /// See dead letters, and have them tried again: one, by flags, or all.
    Dlq(DlqCommand),
    /// Make the read models anew from the first event, beside the live ones, and swap.
    Rebuild(RebuildCommand),
    /// Copy everything that cannot be made again, while the system runs; or verify such a copy.
    Backup(BackupCommand),
    /// Put a backup into an empty broker.
    Restore(RestoreCommand),
    /// Make a token for development.
    Token(TokenCommand),
    /// Show the configuration that holds, or every mistake in it.
    Config(ConfigCommand),
    /// Say what is wrong with a configuration or a running system, and what mends it.
    Doctor(DoctorCommand),
    /// Measure how fast it is, against what this machine can do.
    Bench(BenchCommand),
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

    #[test]
    fn every_command_has_examples_and_json() {
        let all = Cli::command();
        for command in all.get_subcommands().filter(|one| !one.is_hide_set()) {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let example = format!("chat4all {name}");
            // One help text for all roles.
            let example = if help.contains("chat4all all") {
                "chat4all all"
            } else {
                &example
            };
            assert!(
                help.starts_with("Examples:\n") && help.contains(example),
                "{name}: {help}"
            );
            let json = |one: &clap::Command| one.get_arguments().any(|arg| arg.get_id() == "json");
            let mut parts = command.get_subcommands().peekable();
            let every = match parts.peek() {
                Some(_) => parts.all(json),
                None => json(command),
            };
            // It tells people what it starts; programs read its `env` file.
            assert!(every || name == "up", "{name} has no --json");
        }
    }
}
