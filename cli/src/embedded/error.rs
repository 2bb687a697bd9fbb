//! What can go wrong with a server of ours.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

/// A server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The program is nowhere on this machine.
    #[error("{program} not found (looked in {looked_in}); {remedy}")]
    ToolMissing {
        /// What is missing, such as `nats-server`.
        program: &'static str,
        /// The places that were searched, in order.
        looked_in: String,
        /// What gets it.
        remedy: &'static str,
    },
    /// The `chat4all` binary is not where the build puts it.
    #[error("the chat4all binary is not beside {}; build with `cargo build --workspace --bins`", near.display())]
    GuardMissing {
        /// The executable that was the starting point of the search.
        near: PathBuf,
    },
    /// A file or directory could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, such as `create`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another server runs on this directory.
    #[error("{} is in use by another server", path.display())]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The process could not be created.
    #[error("cannot start {program}")]
    Spawn {
        /// Which program.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program ended instead of serving.
    #[error("{program} ended at once ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },
    /// The program runs, but does not serve.
    #[error(
        "{program} is not ready after {after:?}, last seen: {last_seen}; the end of its log:\n{log}"
    )]
    NotReady {
        /// Which program.
        program: String,
        /// How long we waited.
        after: Duration,
        /// What the last look showed.
        last_seen: String,
        /// The last lines it wrote.
        log: String,
    },
    /// All ports of the range are taken.
    #[error("no free port between {from} and {to} on 127.0.0.1")]
    NoFreePort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// The data was written by another major version of Postgres.
    #[error(
        "{} was written by PostgreSQL {data}, but {} is PostgreSQL {program}; \
         use that version, or remove the directory (read models are rebuilt from the log)",
        path.display(), bin.display()
    )]
    OtherVersion {
        /// The data directory.
        path: PathBuf,
        /// Major version that wrote it.
        data: String,
        /// The programs that were found.
        bin: PathBuf,
        /// Their major version.
        program: String,
    },
    /// Postgres refuses to run as root, and the user nobody cannot get at its files.
    #[error(
        "Postgres cannot run as root, and user 65534 (nobody) cannot use {}: {reason}; \
         run as another user, or set CHAT4ALL_POSTGRES__URL to a server of your own",
        path.display()
    )]
    Unreachable {
        /// What nobody cannot use.
        path: PathBuf,
        /// What was tried, and what came of it.
        reason: String,
    },
}

impl StartError {
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// Whether another process was faster in taking the port that this one was started with.
    pub fn is_port_taken(&self) -> bool {
        matches!(self, Self::Ended { log, .. } | Self::NotReady { log, .. }
            if log.contains("address already in use") || log.contains("Address already in use"))
    }
}

/// A server did not stop by itself; it has been killed, and is gone.
#[derive(Debug, Error)]
#[error("{program} did not stop within {grace:?} and was killed")]
pub struct StopError {
    /// Which program.
    pub program: String,
    /// How long it was given.
    pub grace: Duration,
}
