//! A nats-server with a configuration of the test's own, for what no embedded one is.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chat4all_cli::embedded::{Launch, NatsTools, Port, Process, log_tail, open_log, temp_dir};
use chat4all_cli::guard::DeathSignal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::said::{Variables, on};

/// How long it may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often ports that somebody else takes are chosen anew.
const PORT_ATTEMPTS: u32 = 20;

/// Dropping it kills it.
pub struct Server {
    name: String,
    client: u16,
    monitor: u16,
    log: PathBuf,
    process: Process,
    _dir: TempDir,
}

impl Server {
    /// Starts it with `settings`, beside its name and its ports, and waits until it serves.
    pub async fn start(settings: &str) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let server = Self::launch(settings).await;
            if server.serves().await {
                return server;
            }
        }
        panic!("somebody else was faster with every port");
    }

    /// A configuration for it, without a login.
    pub fn variables(&self) -> Variables {
        on(format!("nats://{}", self.place()), self.monitor_url())
    }

    /// Where clients connect, as people are told.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    async fn launch(settings: &str) -> Self {
        let dir = temp_dir().unwrap();
        let [client, monitor] = [(); 2].map(|()| Port::Any.pick().unwrap());
        // Its ports are nobody else's, so nobody else has this name.
        let name = format!("doctor-{client}-{monitor}");
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{monitor}\"\n{settings}\n"
        );
        let configuration = dir.path().join("nats-server.conf");
        std::fs::write(&configuration, text).unwrap();
        let log = dir.path().join("nats-server.log");
        let launched = Process::spawn(Launch {
            name: "nats-server".into(),
            program: NatsTools::find().unwrap().server,
            arguments: vec!["-c".into(), configuration.into()],
            environment: Vec::new(),
            directory: dir.path().to_owned(),
            run_as: None,
            death_signal: DeathSignal::Kill,
            input: None,
            output: open_log(&log).unwrap(),
        });
        Self {
            name,
            client,
            monitor,
            log,
            process: launched.await.unwrap(),
            _dir: dir,
        }
    }

    /// Waits until it serves; `false` when it has ended, because somebody else was faster with a port.
    async fn serves(&self) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.status() {
                let log = log_tail(&self.log, 0);
                let taken = log.contains("address already in use");
                assert!(taken, "nats-server ended ({status}): {log}");
                return false;
            }
            // It listens to clients last.
            if self.is_monitored().await && TcpStream::connect(self.place()).await.is_ok() {
                return true;
            }
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "it does not serve: {}", log_tail(&self.log, 0));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether it is this one that answers there.
    async fn is_monitored(&self) -> bool {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
        let varz = format!("{}/varz", self.monitor_url());
        let Ok(answer) = client.build().unwrap().get(varz).send().await else {
            return false;
        };
        let varz = answer.json::<Value>().await;
        varz.is_ok_and(|varz| varz["server_name"] == self.name.as_str())
    }
}
