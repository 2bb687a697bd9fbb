//! One nats-server.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::nats_config::{self, Environment, path_value};
use super::process_table::until_stopped;
use super::{Launch, NatsTools, Port, Process, StartError, StopError, directory, log_file};
use crate::guard::DeathSignal;

/// How long it may take to recover its streams and serve.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long it gets to write down what it has in memory.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How often a port that somebody else takes is tried again.
const PORT_ATTEMPTS: u32 = 20;

/// How to run a nats-server. `NatsOptions::in_dir(dir)` and then what differs.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Its directory: configuration, streams, lock. Made if needed.
    pub dir: PathBuf,
    /// Where it writes its log; `nats-server.log` in `dir` by default.
    pub log: PathBuf,
    /// Port for clients; any free one by default.
    pub port: Port,
    /// `always` by default: acknowledged means on disk. `1s` and the like are faster and weaker.
    pub sync_interval: String,
    /// Most that all file streams may take, in NATS' notation; `20GB` by default. Reserved sizes of streams count.
    pub max_file: String,
}

impl NatsOptions {
    /// The defaults, in this directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            log: dir.join("nats-server.log"),
            dir,
            port: Port::Any,
            sync_interval: "always".into(),
            max_file: "20GB".into(),
        }
    }
}

/// A nats-server with JetStream on 127.0.0.1. Dropping it kills the server; its directory stays.
#[derive(Debug)]
pub struct Nats {
    tools: NatsTools,
    dir: PathBuf,
    log: PathBuf,
    ports: Ports,
    node: Node,
    /// `None` only while it is being started again.
    process: Option<Process>,
    /// Where its log stood when it was started last.
    log_begins: u64,
}

/// What a node is, besides its ports.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub name: String,
    pub configuration: &'static str,
    pub environment: Environment,
}

/// The ports of a node, which it keeps for its life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub client: u16,
    pub monitor: u16,
}

impl Nats {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: NatsOptions) -> Result<Self, StartError> {
        let environment = Environment::defaults()
            .with("NATS_SYNC_INTERVAL", &options.sync_interval)
            .with("NATS_MAX_FILE", &options.max_file);
        let node = Node {
            name: "chat4all-1".into(),
            configuration: nats_config::SINGLE,
            environment,
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let ports = Ports {
                client: options.port.pick()?,
                monitor: Port::Any.pick()?,
            };
            let mut server = Self::prepare(&options.dir, &options.log, ports, node.clone())?;
            match server.serve().await {
                Ok(()) => return Ok(server),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A server that does not run yet.
    pub(super) fn prepare(
        dir: &Path,
        log: &Path,
        ports: Ports,
        node: Node,
    ) -> Result<Self, StartError> {
        let tools = NatsTools::find()?;
        let dir = directory::create(dir)?;
        Ok(Self {
            tools,
            dir,
            log: log.to_owned(),
            ports,
            node,
            process: None,
            log_begins: 0,
        })
    }

    /// Address for clients, such as `nats://127.0.0.1:4222`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports.client)
    }

    /// Address of its monitoring, such as `http://127.0.0.1:8222`.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.monitor)
    }

    /// Port for clients.
    pub fn port(&self) -> u16 {
        self.ports.client
    }

    /// Its name in the cluster and in advisories.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Process id, `None` if it does not run.
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

    /// Stops it gracefully.
    ///
    /// # Errors
    /// If it had to be killed; it is gone in any case.
    pub async fn stop(&mut self) -> Result<(), StopError> {
        match self.process.take() {
            Some(process) => process.stop(Signal::INT, STOP_GRACE).await,
            None => Ok(()),
        }
    }

    /// Kills it with `SIGKILL`; returns when it is gone.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again on the same ports and directory, after stopping it if it runs; waits until it serves.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        // A server that had to be killed starts again all the same.
        let _ = self.stop().await;
        self.serve().await
    }

    async fn serve(&mut self) -> Result<(), StartError> {
        self.launch().await?;
        self.ready().await
    }

    /// Makes it hang: its connections stay open, nothing is answered. Returns when it does.
    pub async fn suspend(&self) {
        self.signal(Signal::STOP);
        until_stopped(self.pid().as_slice()).await;
    }

    /// Ends [`Self::suspend`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Starts the process and returns when somebody listens on its port: it, or another who was faster. In that case it ends
    /// in a moment, which [`Nats::ended`] shows.
    pub(super) async fn launch(&mut self) -> Result<(), StartError> {
        let configuration = self.dir.join("nats-server.conf");
        std::fs::write(&configuration, self.node.configuration)
            .map_err(StartError::file("write", &configuration))?;
        let environment = self.node.environment.clone();
        let environment = environment
            .with("NATS_SERVER_NAME", &self.node.name)
            .with("NATS_LISTEN", format!("127.0.0.1:{}", self.ports.client))
            .with("NATS_MONITOR", format!("127.0.0.1:{}", self.ports.monitor))
            .with("NATS_STORE_DIR", path_value(&self.dir));
        let output = log_file::open(&self.log)?;
        self.log_begins = output.metadata().map_or(0, |file| file.len());
        let process = Process::spawn(Launch {
            name: "nats-server".into(),
            program: self.tools.server.clone(),
            arguments: vec!["-c".into(), configuration.into()],
            environment: environment.into_pairs(),
            directory: self.dir.clone(),
            run_as: None,
            death_signal: DeathSignal::Kill,
            input: Some(directory::lock(&self.dir).await?),
            output,
        })
        .await?;
        self.process = Some(process);
        let deadline = Instant::now() + START_PATIENCE;
        while Instant::now() < deadline {
            if let Some(error) = self.ended() {
                return Err(error);
            }
            if tokio::net::TcpStream::connect(("127.0.0.1", self.ports.client))
                .await
                .is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(self.not_ready("it does not listen".into()))
    }

    /// [`StartError::Ended`] if it was started and has ended by itself.
    pub(super) fn ended(&self) -> Option<StartError> {
        let status = self.process.as_ref()?.status()?;
        Some(StartError::Ended {
            program: "nats-server".into(),
            status,
            log: log_file::tail(&self.log, self.log_begins),
        })
    }

    /// Waits until the server says that it is healthy: streams recovered and, in a cluster, a leader found.
    pub(super) async fn ready(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let health = self.health().await;
            if let Some(error) = self.ended() {
                return Err(error);
            }
            let Err(last_seen) = health else {
                return Ok(());
            };
            if Instant::now() > deadline || self.pid().is_none() {
                return Err(self.not_ready(last_seen));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What its monitoring says when it is not healthy.
    pub(super) async fn health(&self) -> Result<(), String> {
        match self.monitor("/healthz").await {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("{}: {status} {body}", self.name())),
            Err(error) => Err(format!("{}: {error}", self.name())),
        }
    }

    /// Status and body of a page of its monitoring.
    pub(super) async fn monitor(&self, path: &str) -> reqwest::Result<(u16, String)> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()?;
        let response = client
            .get(format!("{}{path}", self.monitor_url()))
            .send()
            .await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    fn not_ready(&self, last_seen: String) -> StartError {
        let log = log_file::tail(&self.log, self.log_begins);
        StartError::NotReady {
            program: "nats-server".into(),
            after: START_PATIENCE,
            last_seen,
            log,
        }
    }
}
