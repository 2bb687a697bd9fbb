//! A role as a child process.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::embedded::{
    Launch, Process, StartError, StopError, chat4all_program, log_tail, open_log,
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
    /// Where it serves.
    url: String,
    log: PathBuf,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl RoleProcess {
    /// Starts it and waits until it is ready. `environment` is what it is to know, its address among it.
    ///
    /// # Errors
    /// It ended, or was not ready in time; the end of its log is in the error.
    pub async fn start(
        role: Role,
        url: String,
        log: PathBuf,
        directory: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Result<Self, StartError> {
        let mut role = Self {
            role,
            url,
            log,
            directory,
            environment,
            process: None,
        };
        role.launch().await?;
        Ok(role)
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
        let process = self.process.insert(process);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(3))
            .build();
        let client = client.expect("a client without certificates of its own can be made");
        let (deadline, ready) = (
            Instant::now() + START_PATIENCE,
            format!("{}/readyz", self.url),
        );
        loop {
            if let Some(status) = process.status() {
                let (program, log) = (self.role.name().to_owned(), log_tail(&self.log, written));
                return Err(StartError::Ended {
                    program,
                    status,
                    log,
                });
            }
            let last_seen = match client.get(&ready).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => answer
                    .text()
                    .await
                    .unwrap_or_else(|error| error.to_string()),
                Err(error) => error.to_string(),
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
