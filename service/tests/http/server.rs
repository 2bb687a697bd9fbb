//! A server on a free port, with its log captured.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use chat4all_service::config::{Config, Sources};
use chat4all_service::health::Checks;
use chat4all_service::http::{Shell, serve};
use chat4all_service::metrics::Metrics;
use chat4all_service::shutdown::Shutdown;
use chat4all_service::telemetry::{Guard, subscriber};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::dispatcher::{DefaultGuard, set_default};
use tracing_subscriber::fmt::MakeWriter;

/// Everything stops when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub metrics: Metrics,
    pub checks: Checks,
    pub shutdown: Shutdown,
    pub served: JoinSet<io::Result<()>>,
    log: Log,
    // The thread's, so that tests beside this one have their own; the tests run on one thread each.
    _default: DefaultGuard,
    _telemetry: Guard,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Server {
    /// Serves `routes` with a body limit of 1 KiB and a request timeout of 300 ms.
    pub async fn start(routes: Router) -> Self {
        let file = format!(
            "[auth]\nhs256_secret = '{}'\n[ids]\nsecret = '{}'\n[http]\nbody_limit_bytes = 1024\n\
             request_timeout_ms = 300\ncommand_deadline_ms = 200\n\
             [postgres]\nacquire_timeout_ms = 100\nstatement_timeout_ms = 100\n",
            "s".repeat(32),
            "0".repeat(64)
        );
        let config = Config::load(&Sources::new().with_file("test", file))
            .unwrap()
            .config;
        let log = Log::default();
        let (dispatch, telemetry) = subscriber(&config.telemetry, "test", log.clone()).unwrap();
        let default = set_default(&dispatch);

        let (metrics, checks, shutdown) = (Metrics::new(), Checks::new("test"), Shutdown::new());
        let routes = routes.merge(metrics.routes()).merge(checks.routes());
        let routes = Shell::new(&config.http, &metrics).wrap(routes, None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut served = JoinSet::new();
        let until = shutdown.clone();
        served.spawn(async move { serve(listener, routes, &until).await });
        Self {
            address,
            metrics,
            checks,
            shutdown,
            served,
            log,
            _default: default,
            _telemetry: telemetry,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The access lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["fields"].get("http.status").is_some())
            .collect()
    }

    /// The whole log so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap()
}
