//! The one binary: each command is one arm.

use std::process::{ExitCode, Termination};

use chat4all_cli::args::{Cli, Command};
use chat4all_cli::roles::{self, Role};
use chat4all_cli::tool::{
    self, CtrlC, backup, channels, config, dlq, doctor, lag, log, provision, rebuild, restore,
    send, token,
};
use chat4all_cli::{bench, guard, up};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Guard(command) => guard::run(&command),
        Command::Up(command) => up::main(&command),
        Command::All(command) => roles::main(Role::All, &command),
        Command::CommandApi(command) => roles::main(Role::CommandApi, &command),
        Command::Projector(command) => roles::main(Role::Projector, &command),
        Command::QueryApi(command) => roles::main(Role::QueryApi, &command),
        Command::Bridges(command) => roles::main(Role::Bridges, &command),
        Command::Simulator(args) => read("simulator", tool::simulator::run(args)),
        Command::Provision(command) => read("provision", provision::run(&command)),
        Command::Send(command) => read("send", send::run(&command)),
        Command::Log(command) => read("log", log::run(&command)),
        Command::Lag(command) => read("lag", lag::run(&command)),
        Command::Channels(command) => read("channels", channels::run(&command)),
        Command::Dlq(command) => tool::main("dlq", CtrlC::CutsItOff, dlq::run(&command)),
        Command::Rebuild(command) => tool::main("rebuild", CtrlC::IsItsOwn, rebuild::run(&command)),
        Command::Backup(command) => tool::main("backup", CtrlC::CutsItOff, backup::run(&command)),
        Command::Restore(command) => {
            tool::main("restore", CtrlC::CutsItOff, restore::run(&command))
        }
        Command::Token(command) => read("token", token::run(&command)),
        Command::Bench(command) => tool::main("bench", CtrlC::CutsItOff, bench::run(&command)),
        Command::Doctor(command) => read("doctor", doctor::run(&command)),
        Command::Config(command) => read("config", config::run(&command)),
    }
}

/// A command that can be ended at any time.
fn read<T: Termination>(name: &str, command: impl Future<Output = anyhow::Result<T>>) -> ExitCode {
    tool::main(name, CtrlC::EndsIt, command)
}
