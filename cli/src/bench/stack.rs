//! The stack that is measured: a `chat4all up` of this very binary, in a temporary directory.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tokio::time::sleep;

use super::system::System;
use crate::embedded::{
    Launch, Process, chat4all_program, children_of, log_tail, open_log, temp_dir,
};
use crate::guard::DeathSignal;

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_GRACE: Duration = Duration::from_secs(60);
/// Far from the ports of a `make run` beside it: HTTP, and NATS. A stack that runs there already sends the next one so much
/// further.
const PORTS: (u16, u16) = (18_480, 14_222);
const FURTHER: u16 = 100;
/// `up` puts the simulator so far above the roles.
const SIMULATOR: u16 = 20;
/// Ports that a stack may need from its first on, simulator included.
const SPAN: u16 = 30;
/// Stands for the simulator's address in a setting.
const SIMULATOR_HERE: &str = "{simulator}";

/// A running stack of our own. Dropping it kills every process of it.
#[derive(Debug)]
pub(super) struct Stack {
    system: System,
    /// From the launch until it said that it runs.
    pub started_in: Duration,
    settings: Vec<(String, String)>,
    process: Process,
    dir: tempfile::TempDir,
}

impl Deref for Stack {
    type Target = System;
    fn deref(&self) -> &System {
        &self.system
    }
}

impl Stack {
    /// Starts one, every role in one process, with these variables besides the defaults; `{simulator}` in them stands for the
    /// simulator's address.
    ///
    /// # Errors
    /// It does not come up; the end of what it said is in the error.
    pub async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(temp_dir()?, settings, &[]).await
    }

    /// The same with a process for each role.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub async fn split(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(temp_dir()?, settings, &["--split"]).await
    }

    async fn start_in(
        dir: tempfile::TempDir,
        settings: &[(&str, &str)],
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let output = dir.path().join("up.log");
        let (http, nats) = free_ports();
        let simulator = format!("http://127.0.0.1:{}", http + SIMULATOR);
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| {
                let value = value.replace(SIMULATOR_HERE, &simulator);
                ((*name).to_owned(), value)
            })
            .collect();
        let (http, nats) = (http.to_string(), nats.to_string());
        let arguments = ["up", "--http-port", &http, "--nats-port", &nats];
        let arguments = arguments.iter().chain(flags).chain(&["--dir"]);
        let begun = Instant::now();
        let process = Process::spawn(Launch {
            name: "chat4all up".to_owned(),
            program: chat4all_program()?,
            arguments: arguments
                .map(Into::into)
                .chain([dir.path().into()])
                .collect(),
            environment: settings.clone(),
            directory: std::env::current_dir()?,
            run_as: None,
            death_signal: DeathSignal::Kill,
            input: None,
            output: open_log(&output)?,
        })
        .await?;
        let said = || log_tail(&output, 0);
        while !said().contains("\nrunning") {
            ensure!(process.status().is_none(), "the stack ended: {}", said());
            ensure!(
                begun.elapsed() < START_PATIENCE,
                "the stack does not come up: {}",
                said()
            );
            sleep(Duration::from_millis(5)).await;
        }
        let started_in = begun.elapsed();
        let system = System::read(&dir.path().join("env"))?;
        let at = system.variable("CHAT4ALL_SIMULATOR_URL")?;
        ensure!(
            at == simulator,
            "the simulator is at {at} instead of {simulator}: somebody took its port just now; start again"
        );
        Ok(Self {
            system,
            started_in,
            settings,
            process,
            dir,
        })
    }

    /// Stops it and starts it again on the same data.
    ///
    /// # Errors
    /// It does not stop, or does not come up.
    pub async fn again(self) -> anyhow::Result<Self> {
        self.process.stop(Signal::TERM, STOP_GRACE).await?;
        std::fs::remove_file(self.dir.path().join("up.log"))?;
        Self::start_in(self.dir, &[], &[]).await
    }

    /// # Errors
    /// It had to be killed.
    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.process.stop(Signal::TERM, STOP_GRACE).await?)
    }

    /// Every process of it, itself included.
    pub fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.process.pid()];
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            all.extend(children_of(*pid));
            next += 1;
        }
        all
    }

    /// Starts one more process of a role, which serves on a port that is free. Dropping it kills the process.
    ///
    /// # Errors
    /// The system refuses. What it says is in `log/more-<n>.log` of the stack's directory.
    pub async fn one_more(&self, role: &str, n: usize) -> anyhow::Result<Process> {
        let mut environment = self.settings.clone();
        let variables = self.variables().iter();
        environment.extend(variables.map(|(name, value)| (name.clone(), value.clone())));
        environment.push(("CHAT4ALL_HTTP__LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
        let log = self.dir.path().join(format!("log/more-{n}.log"));
        let process = Process::spawn(Launch {
            name: format!("chat4all {role}"),
            program: chat4all_program()?,
            arguments: vec![role.into()],
            environment,
            directory: std::env::current_dir()?,
            run_as: None,
            death_signal: DeathSignal::Kill,
            input: None,
            output: open_log(&log)?,
        });
        process.await.context("one more process does not start")
    }
}

/// Where a stack finds every port free that it will need. When there is no such place, `up` itself looks for each.
fn free_ports() -> (u16, u16) {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let places = (0..30).map(|n| (PORTS.0 + n * FURTHER, PORTS.1 + n * FURTHER));
    places
        .clone()
        .find(|(http, nats)| (*http..*http + SPAN).all(free) && free(*nats))
        .unwrap_or(PORTS)
}
