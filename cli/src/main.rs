//! The one binary: each command is one arm.

use std::process::ExitCode;

use chat4all_cli::args::{Cli, Command};
use chat4all_cli::{guard, up};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Guard(command) => guard::run(&command),
        Command::Up(command) => up::main(&command),
    }
}
