//! The one binary: each command is one arm.

use std::process::ExitCode;

use chat4all_cli::args::{Cli, Command};
use chat4all_cli::roles::{self, Role};
use chat4all_cli::tool::{
    self, backup, config, doctor, lag, log, provision, rebuild, restore, send, token,
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
        Command::Simulator(args) => tool::main("simulator", tool::simulator::run(args)),
        Command::Provision(command) => tool::main("provision", provision::run(&command)),
        Command::Send(command) => tool::main("send", send::run(&command)),
        Command::Log(command) => tool::main("log", log::run(&command)),
        Command::Lag(command) => tool::main("lag", lag::run(&command)),
        Command::Rebuild(command) => rebuild::main(&command),
        Command::Backup(command) => tool::to_the_end("backup", backup::run(&command)),
        Command::Restore(command) => tool::to_the_end("restore", restore::run(&command)),
        Command::Token(command) => tool::main("token", token::run(&command)),
        Command::Bench(command) => tool::main("bench", bench::run(&command)),
        Command::Doctor(command) => doctor::main(&command),
        Command::Config(command) => tool::main("config", config::run(&command)),
    }
}
