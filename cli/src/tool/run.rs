//! How a command is run: to its end or to Ctrl-C, with one readable line when it fails and an honest exit code.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, ErrorKind, Write as _};
use std::process::{ExitCode, Termination};

use anyhow::Context as _;
use chat4all_service::Chain;

/// What Ctrl-C means to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtrlC {
    /// The way to end it: exit code 0.
    EndsIt,
    /// It did not come to its end, and somebody must know: exit code 130.
    CutsItOff,
    /// It listens for signals itself.
    IsItsOwn,
}

/// Standard output does not take a line. When it is a pipe that was closed (`| head`), nobody wants to know more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct Unheard(#[source] io::Error);

/// Runs a command. `()` is exit code 0, other exit codes are the command's own; a failure is one line on standard error
/// and exit code 1.
pub fn main<T: Termination>(
    name: &str,
    ctrl_c: CtrlC,
    command: impl Future<Output = anyhow::Result<T>>,
) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime");
    let ended = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let interrupted = async {
                match ctrl_c {
                    CtrlC::IsItsOwn => std::future::pending().await,
                    CtrlC::EndsIt | CtrlC::CutsItOff => tokio::signal::ctrl_c().await,
                }
            };
            tokio::select! {
                done = command => done.map(Termination::report),
                heard = interrupted => heard
                    .context("cannot listen for Ctrl-C")
                    .map(|()| on_interrupt(name, ctrl_c)),
            }
        })
    });
    match ended {
        Ok(code) => code,
        Err(error) if nobody_listens(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(name, &error);
            ExitCode::FAILURE
        }
    }
}

fn on_interrupt(name: &str, ctrl_c: CtrlC) -> ExitCode {
    match ctrl_c {
        CtrlC::EndsIt | CtrlC::IsItsOwn => ExitCode::SUCCESS,
        CtrlC::CutsItOff => {
            note(format_args!(
                "chat4all {name}: interrupted; it did not come to its end"
            ));
            ExitCode::from(130)
        }
    }
}

fn nobody_listens(error: &anyhow::Error) -> bool {
    let unheard = error.downcast_ref::<Unheard>();
    unheard.is_some_and(|Unheard(cause)| cause.kind() == ErrorKind::BrokenPipe)
}

/// Says on standard error what went wrong, with every cause once.
pub fn complain(name: &str, error: &anyhow::Error) {
    note(format_args!("chat4all {name}: {}", Chain(error.as_ref())));
}

/// Says something on standard error. That it is closed is no reason to stop.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes one line of the answer. A closed pipe is an error that [`main`] understands: whatever is only to be read can end.
///
/// # Errors
/// Standard output is closed, or its disk is full.
pub fn line(text: impl Display) -> Result<(), Unheard> {
    writeln!(io::stdout().lock(), "{text}").map_err(Unheard)
}

/// Writes one line of a report about work that goes on whether somebody listens or not: a closed pipe is fine.
///
/// # Errors
/// The disk behind standard output is full.
pub fn say(text: impl Display) -> Result<(), Unheard> {
    match line(text) {
        Err(Unheard(cause)) if cause.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
