//! `chat4all guard`: becomes another program that the kernel ends when its parent dies.
//!
//! A supervisor that is killed with `kill -9` cannot stop its children; the kernel can, if the child asked for it
//! (`PR_SET_PDEATHSIG`). It must be asked for between fork and exec, in the child, and after the change of user,
//! which would clear it. Without `unsafe` there is no code of ours between fork and exec, so the child is first this
//! command, which asks and then execs the real program: same process, same pid.
//!
//! The signal is tied to the *thread* that started the child; see [`crate::embedded::Process`].
//!
//! Source: prctl(2), `PR_SET_PDEATHSIG`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// Exit code when the program could not be started, as shells and `env` use it.
const CANNOT_START: u8 = 126;

/// Which program, for which parent.
#[derive(Debug, Args)]
pub struct Guard {
    /// Process that must be the parent; if it no longer is, nothing is started.
    #[arg(long)]
    parent: i32,
    /// Signal the program gets when the parent dies.
    #[arg(long, value_enum, default_value = "kill")]
    death_signal: DeathSignal,
    /// User and group id to become first, in numbers; needs root.
    #[arg(long)]
    become_id: Option<u32>,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// What a child gets when its parent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeathSignal {
    /// `SIGKILL`: for programs without children of their own.
    Kill,
    /// `SIGQUIT`: Postgres' immediate shutdown, which takes its own children along.
    Quit,
}

impl DeathSignal {
    /// The value as `--death-signal` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Quit => "quit",
        }
    }
}

/// Becomes the program. Returns only if that failed, after saying why on stderr.
pub fn run(guard: &Guard) -> ExitCode {
    match become_program(guard) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("chat4all guard: {error:#}");
            ExitCode::from(CANNOT_START)
        }
    }
}

fn become_program(guard: &Guard) -> anyhow::Result<std::convert::Infallible> {
    if let Some(id) = guard.become_id {
        drop_privileges(id)?;
    }
    let signal = match guard.death_signal {
        DeathSignal::Kill => Signal::KILL,
        DeathSignal::Quit => Signal::QUIT,
    };
    set_parent_process_death_signal(Some(signal)).context("cannot set the parent-death signal")?;
    // The parent may have died before the call above; then no signal will ever come.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(guard.parent) {
        bail!("the parent, process {}, is gone", guard.parent);
    }
    let (program, arguments) = guard.program.split_first().context("no program given")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// This process has one thread here, so that changing the thread's ids changes the process's.
fn drop_privileges(id: u32) -> anyhow::Result<()> {
    let (uid, gid) = (
        rustix::process::Uid::from_raw(id),
        rustix::process::Gid::from_raw(id),
    );
    set_thread_groups(&[]).context("cannot drop supplementary groups")?;
    set_thread_gid(gid).with_context(|| format!("cannot become group {id}"))?;
    set_thread_uid(uid).with_context(|| format!("cannot become user {id}"))
}
