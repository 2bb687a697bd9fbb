//! A role as a child process.

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
/// How long it gets to stop: its own grace and a little.
const STOP_GRACE: Duration = Duration::from_secs(25);

/// A role that runs as `chat4all <role>`, or is about to. Dropping it kills the process.
#[derive(Debug)]
pub struct RoleProcess {
    role: Role,
    port: u16,
    log: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl RoleProcess {
    /// Starts it on the first port from `port` on that nobody has, and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the end of its log is in the error.
    pub async fn start(
        role: Role,
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
                role,
                port,
                log: directory.join(&format!("log/{}.log", role.name())),
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

    /// The role's name.
    pub fn name(&self) -> &'static str {
        self.role.name()
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
    /// As [`RoleProcess::start`].
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

    async fn launch(&mut self) -> Result<(), StartError> {
        let output = open_log(&self.log)?;
        let written = output.metadata().map_or(0, |file| file.len());
        let process = Process::spawn(Launch {
            name: self.name().to_owned(),
            program: chat4all_program()?,
            arguments: vec![self.name().into()],
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            run_as: None,
            death_signal: DeathSignal::Kill,
            input: None,
            output,
        })
        .await?;
        let url = self.url();
        let process = self.process.insert(process);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(3))
            .build();
        let client = client.expect("a client without certificates of its own can be made");
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = process.status() {
                let (program, log) = (self.role.name().to_owned(), log_tail(&self.log, written));
                return Err(StartError::Ended {
                    program,
                    status,
                    log,
                });
            }
            let last_seen = match is_ready(&client, &url, process.pid()).await {
                Ok(()) => return Ok(()),
                Err(seen) => seen,
            };
            if Instant::now() > deadline {
                return Err(StartError::NotReady {
                    program: self.role.name().to_owned(),
                    after: START_PATIENCE,
                    last_seen,
                    log: log_tail(&self.log, written),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether the process `pid` answers there, and is ready. Somebody else's answer is none.
async fn is_ready(client: &reqwest::Client, url: &str, pid: u32) -> Result<(), String> {
    let ask = async |path: &str| {
        let answer = client.get(format!("{url}{path}")).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let ok = answer.status().is_success();
        Ok::<_, String>((ok, answer.text().await.map_err(|error| error.to_string())?))
    };
    let (_, alive) = ask("/livez").await?;
    let alive: serde_json::Value = serde_json::from_str(&alive).unwrap_or_default();
    if alive["pid"] != pid {
        return Err("another process answers there".to_owned());
    }
    match ask("/readyz").await? {
        (true, _) => Ok(()),
        (false, why) => Err(why),
    }
}
