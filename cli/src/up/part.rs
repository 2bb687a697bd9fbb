//! A part of Chat4All as a child process: a role, or the simulator.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::directory::Directory;
use crate::embedded::{
    Launch, Port, Process, StartError, StopError, chat4all_program, log_tail, open_log,
};
use crate::guard::DeathSignal;
use crate::roles::Role;

/// How long a role may take until it is ready.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// The simulator's accounts, in the directory.
pub const SIMULATOR_FILE: &str = "simulator.json";
/// How long it gets to stop: its own grace and a little.
const STOP_GRACE: Duration = Duration::from_secs(25);

/// What a child process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One of ours.
    Role(Role),
    /// The other side.
    Simulator,
}

impl Part {
    /// Its subcommand.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Role(role) => role.name(),
            Self::Simulator => "simulator",
        }
    }
}

/// A part that runs as `chat4all <part>`, or is about to. Dropping it kills the process.
#[derive(Debug)]
pub struct PartProcess {
    part: Part,
    port: u16,
    log: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl PartProcess {
    /// Starts it on the first port from `port` on that nobody has, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the end of its log is in the error.
    pub async fn start(
        part: Part,
        port: u16,
        directory: &Directory,
        settings: &[(String, String)],
    ) -> Result<Self, StartError> {
        let mut port = Port::From(port).pick()?;
        loop {
            let mut environment = settings.to_vec();
            environment.push((
                "CHAT4ALL_HTTP__LISTEN".to_owned(),
                format!("127.0.0.1:{port}"),
            ));
            let mut started = Self {
                part,
                port,
                log: directory.join(&format!("log/{}.log", part.name())),
                directory: directory.join(""),
                environment,
                process: None,
            };
            match started.launch().await {
                Ok(()) => return Ok(started),
                // Somebody was faster with the port that was free a moment ago.
                Err(error) if error.is_port_taken() => port = Port::From(port + 1).pick()?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The port it serves on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it serves.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The part's name.
    pub fn name(&self) -> &'static str {
        self.part.name()
    }

    /// Ends when the process has ended, however that came. At once if it does not run.
    pub fn exited(&self) -> impl Future<Output = Option<ExitStatus>> + Send + 'static {
        let exited = self.process.as_ref().map(Process::exited);
        async move {
            match exited {
                Some(exited) => Some(exited.await),
                None => None,
            }
        }
    }

    /// Starts it again where it was.
    ///
    /// # Errors
    /// As [`PartProcess::start`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        // One that had to be killed starts again all the same.
        let _ = self.stop().await;
        self.launch().await
    }

    /// Lets it finish what it has begun, then ends it.
    ///
    /// # Errors
    /// It had to be killed.
    pub async fn stop(&mut self) -> Result<(), StopError> {
        match self.process.take() {
            Some(process) => process.stop(Signal::TERM, STOP_GRACE).await,
            None => Ok(()),
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![self.name().into()];
        if self.part == Part::Simulator {
            let listen = format!("127.0.0.1:{}", self.port);
            arguments.extend(["--listen".into(), listen.into(), "--config".into()]);
            arguments.push(self.directory.join(SIMULATOR_FILE).into());
        }
        arguments
    }

    async fn launch(&mut self) -> Result<(), StartError> {
        let output = open_log(&self.log)?;
        let written = output.metadata().map_or(0, |file| file.len());
        let process = Process::spawn(Launch {
            name: self.name().to_owned(),
            program: chat4all_program()?,
            arguments: self.arguments(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            run_as: None,
            death_signal: DeathSignal::Kill,
            input: None,
            output,
        })
        .await?;
        let (url, part) = (self.url(), self.part);
        let process = self.process.insert(process);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(3))
            .build();
        let client = client.expect("a client without certificates of its own can be made");
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = process.status() {
                let (program, log) = (self.part.name().to_owned(), log_tail(&self.log, written));
                return Err(StartError::Ended {
                    program,
                    status,
                    log,
                });
            }
            let last_seen = match is_ready(&client, part, &url, process).await {
                Ok(()) => return Ok(()),
                Err(seen) => seen,
            };
            if Instant::now() > deadline {
                return Err(StartError::NotReady {
                    program: self.part.name().to_owned(),
                    after: START_PATIENCE,
                    last_seen,
                    log: log_tail(&self.log, written),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether `process` answers there, and is ready. Somebody else's answer is none.
async fn is_ready(
    client: &reqwest::Client,
    part: Part,
    url: &str,
    process: &Process,
) -> Result<(), String> {
    let ask = async |path: &str| {
        let answer = client.get(format!("{url}{path}")).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let ok = answer.status().is_success();
        Ok::<_, String>((ok, answer.text().await.map_err(|error| error.to_string())?))
    };
    let path = match part {
        Part::Role(_) => {
            let (_, alive) = ask("/livez").await?;
            let alive: serde_json::Value = serde_json::from_str(&alive).unwrap_or_default();
            if alive["pid"] != process.pid() {
                return Err("another process answers there".to_owned());
            }
            "/readyz"
        }
        // It plays somebody else, so it does not say who it is: one that found the port taken is gone in a moment.
        Part::Simulator => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if process.status().is_some() {
                return Err("it has ended".to_owned());
            }
            "/_sim/stats"
        }
    };
    match ask(path).await? {
        (true, _) => Ok(()),
        (false, why) => Err(why),
    }
}
