//! One Postgres.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};

use super::postgres_home::{self, Home};
use super::process_table::until_stopped;
use super::{
    Launch, Port, PostgresTools, Process, StartError, StopError, children_of, directory,
    is_running, log_file,
};
use crate::guard::DeathSignal;

/// Name of the superuser and of the database.
pub(super) const NAME: &str = "chat4all";
/// How long making the data directory or recovering may take.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long it gets for a checkpoint at the end.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a port that somebody else takes is chosen anew.
const PORT_ATTEMPTS: u32 = 5;

/// How to run a Postgres. `PostgresOptions::in_dir(dir)` and then what differs.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Its directory. Made if needed; the data directory in it belongs to whom Postgres runs as.
    pub dir: PathBuf,
    /// Where it writes its log; `postgres.log` in `dir` by default.
    pub log: PathBuf,
    /// Its port; any free one by default.
    pub port: Port,
    /// Whether a power cut is survived. `true` by default; tests that do not cut the power are faster without.
    pub fsync: bool,
}

impl PostgresOptions {
    /// The defaults, in this directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            log: dir.join("postgres.log"),
            dir,
            port: Port::Any,
            fsync: true,
        }
    }
}

/// A Postgres on 127.0.0.1 with an empty database `chat4all`. Dropping it kills the server; its directory stays.
#[derive(Debug)]
pub struct Postgres {
    pub(super) home: Home,
    dir: PathBuf,
    pub(super) log: PathBuf,
    port: u16,
    pub(super) fsync: bool,
    process: Option<Process>,
}

impl Postgres {
    /// Starts a server, making its data directory first if there is none, and waits until it answers queries.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: PostgresOptions) -> Result<Self, StartError> {
        let tools = PostgresTools::find()?;
        let dir = directory::create(&options.dir)?;
        let home = postgres_home::find(&dir, tools)?;
        let PostgresOptions {
            log, port, fsync, ..
        } = options;
        let mut server = Self {
            home,
            dir,
            log,
            port: 0,
            fsync,
            process: None,
        };
        server.make_data().await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            server.port = port.pick()?;
            match server.launch().await {
                Ok(()) => return Ok(server),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Address of the database, such as `postgres://chat4all@127.0.0.1:5432/chat4all`. The user may create others.
    pub fn url(&self) -> String {
        format!("postgres://{NAME}@127.0.0.1:{}/{NAME}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory, as it was asked for.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Process id of the postmaster, `None` if it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.process
            .as_ref()
            .filter(|process| process.status().is_none())
            .map(Process::pid)
    }

    /// Ends when the server has ended, however that came. At once if it does not run.
    pub fn exited(&self) -> impl Future<Output = Option<ExitStatus>> + Send + 'static {
        let exited = self.process.as_ref().map(Process::exited);
        async move {
            match exited {
                Some(exited) => Some(exited.await),
                None => None,
            }
        }
    }

    /// Stops it: connections are cut, a checkpoint is written.
    ///
    /// # Errors
    /// If it had to be killed; it is gone in any case.
    pub async fn stop(&mut self) -> Result<(), StopError> {
        self.resume();
        match self.process.take() {
            // Postgres' "fast shutdown".
            Some(process) => process.stop(Signal::INT, STOP_GRACE).await,
            None => Ok(()),
        }
    }

    /// Kills it and all its children with `SIGKILL`; returns when they are gone.
    pub async fn kill(&mut self) {
        let children = self.kill_all();
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
        // Orphans now, so nobody tells us of their end.
        while children.iter().any(|&child| is_running(child)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Starts it again on the same port and directory, after stopping it if it runs; waits until it answers.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        // A server that had to be killed starts again all the same.
        let _ = self.stop().await;
        self.launch().await
    }

    /// Makes it hang, with all its connections: they stay open, nothing is answered. Returns when it does.
    pub async fn suspend(&self) {
        if let Some(pid) = self.pid() {
            // The postmaster first, so that it starts no more children.
            self.signal(Signal::STOP);
            until_stopped(&[pid]).await;
            until_stopped(&self.signal_children(Signal::STOP)).await;
        }
    }

    /// Ends [`Self::suspend`].
    pub fn resume(&self) {
        self.signal_children(Signal::CONT);
        self.signal(Signal::CONT);
    }

    /// Kills the children with the postmaster: a busy one would run on until its query ends. Returns their pids.
    fn kill_all(&self) -> Vec<u32> {
        // A stopped postmaster still holds its children and starts no more; a killed one has let go of them.
        self.signal(Signal::STOP);
        let children = self.signal_children(Signal::KILL);
        self.signal(Signal::KILL);
        children
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Each child is in a session of its own, so there is no group to signal.
    fn signal_children(&self, signal: Signal) -> Vec<u32> {
        let children = self.pid().map(children_of).unwrap_or_default();
        for &pid in &children {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // One that has ended meanwhile is no child any more.
                let _ = kill_process(pid, signal);
            }
        }
        children
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home.dir.join("pg")
    }

    /// Starts the server on `self.port` and waits until the database answers.
    async fn launch(&mut self) -> Result<(), StartError> {
        let written = fs::metadata(&self.log).map_or(0, |file| file.len());
        let mut arguments = vec!["-D".into(), self.data().into()];
        // No Unix socket: its path may have 107 bytes at most.
        let mut settings = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
        ];
        if !self.fsync {
            settings.extend(
                [
                    "fsync=off",
                    "synchronous_commit=off",
                    "full_page_writes=off",
                ]
                .map(Into::into),
            );
        }
        for setting in settings {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let process = self
            .spawn("postgres", self.home.tools.postgres(), arguments)
            .await?;
        let process = self.process.insert(process);
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let last_seen =
                match tokio::time::timeout(CONNECT_TIMEOUT, create_database(self.port)).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer".into(),
                };
            let log = || log_file::tail(&self.log, written);
            if let Some(status) = process.status() {
                return Err(StartError::Ended {
                    program: "postgres".into(),
                    status,
                    log: log(),
                });
            }
            if Instant::now() > deadline {
                return Err(self.not_ready("postgres", last_seen, log()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn spawn(
        &self,
        name: &str,
        program: PathBuf,
        arguments: Vec<std::ffi::OsString>,
    ) -> Result<Process, StartError> {
        Process::spawn(Launch {
            name: name.into(),
            program,
            arguments,
            environment: vec![("LC_ALL".into(), "C".into())],
            directory: self.home.dir.clone(),
            run_as: self.home.run_as,
            death_signal: DeathSignal::Quit,
            input: Some(directory::lock(&self.dir).await?),
            output: log_file::open(&self.log)?,
        })
        .await
    }

    pub(super) fn not_ready(&self, program: &str, last_seen: String, log: String) -> StartError {
        StartError::NotReady {
            program: program.into(),
            after: START_PATIENCE,
            last_seen,
            log,
        }
    }
}

/// Killing the postmaster alone would leave a busy child running until its query ends.
impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill_all();
    }
}

async fn create_database(port: u16) -> Result<(), sqlx::Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(NAME)
        .database("postgres");
    let mut connection = PgConnection::connect_with(&options).await?;
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(NAME)
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        connection.execute("create database chat4all").await?;
    }
    connection.close().await
}
