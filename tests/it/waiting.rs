//! Roles that are started before what they need: they wait and say for what, and end only where waiting would be in vain.

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::{
    Nats, NatsOptions, NatsTools, Port, Postgres, PostgresOptions, temp_dir,
};
use chat4all_cli::roles::{self, Role};
use chat4all_nats::Log;
use chat4all_service::{Config, Shutdown, config::Sources};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::log::{client, layout};

const PATIENCE: Duration = Duration::from_secs(30);

/// A role in this process, on addresses of its own.
struct Started {
    http: SocketAddr,
    shutdown: Shutdown,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Started {
    fn role(role: Role, nats: &str, postgres: &str, more: &[(&str, &str)]) -> Self {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut sources = Sources::new()
            .with_variable(
                "CHAT4ALL_AUTH__HS256_SECRET",
                "a secret of at least 32 characters",
            )
            .with_variable("CHAT4ALL_IDS__SECRET", "07".repeat(32))
            .with_variable("CHAT4ALL_NATS__URL", nats)
            // What the server syncs is another check's matter, and another test's.
            .with_variable("CHAT4ALL_NATS__SYNC", "relaxed")
            .with_variable("CHAT4ALL_POSTGRES__URL", postgres)
            .with_variable("CHAT4ALL_HTTP__LISTEN", http.to_string());
        for (name, value) in more {
            sources = sources.with_variable(*name, *value);
        }
        let config = Config::load(&sources).unwrap().config;
        let shutdown = Shutdown::new();
        let running = Box::pin(roles::run(role, config, shutdown.clone()));
        #[expect(clippy::disallowed_methods, reason = "the handle is kept and awaited")]
        let ended = tokio::spawn(running);
        Self {
            http,
            shutdown,
            ended,
        }
    }

    async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let url = format!("http://{}{path}", self.http);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// Waits until readiness is as wanted.
    async fn readiness(&mut self, wanted: impl Fn(u16, &Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.get("/readyz").await;
            if let Some((status, body)) = &seen
                && wanted(*status, body)
            {
                return;
            }
            assert!(Instant::now() < deadline, "last seen: {seen:?}");
            if self.ended.is_finished() {
                panic!("it has ended: {:?}", (&mut self.ended).await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Not ready, and `check` says `why`.
    async fn waits_for(&mut self, check: &str, why: &str) {
        let says = |status: u16, body: &Value| {
            let reason = body["checks"][check]["reason"].as_str().unwrap_or_default();
            status == 503 && reason.contains(why)
        };
        self.readiness(says).await;
    }

    async fn is_ready(&mut self) {
        self.readiness(|status, _| status == 200).await;
    }

    async fn stop(self) {
        self.shutdown.stop();
        let ended = tokio::time::timeout(PATIENCE, self.ended).await;
        ended.expect("it stops").unwrap().unwrap();
        self.shutdown.tasks_ended().await;
        assert_eq!(self.shutdown.deaths(), 0);
    }

    /// The error that it ends with by itself.
    async fn fails(self) -> String {
        let ended = tokio::time::timeout(PATIENCE, self.ended).await;
        let error = ended.expect("it ends").unwrap().unwrap_err();
        format!("{error:#}")
    }
}

fn free_port() -> u16 {
    Port::Any.pick().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_started_first_wait_for_the_broker_the_log_and_postgres_and_then_work() {
    let (nats_port, postgres_port) = (free_port(), free_port());
    let nats_url = format!("nats://127.0.0.1:{nats_port}");
    let postgres_url = format!("postgres://chat4all@127.0.0.1:{postgres_port}/chat4all");
    let mut all = [Role::CommandApi, Role::Projector, Role::Bridges, Role::All]
        .map(|role| Started::role(role, &nats_url, &postgres_url, &[]));
    for started in &mut all {
        started.waits_for("nats", "failed to connect to NATS").await;
        let (status, alive) = started.get("/livez").await.unwrap();
        assert_eq!((status, &alive["status"]), (200, &json!("alive")));
        let (status, problem) = started.get("/v1/anything").await.unwrap();
        assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    }

    let dir = temp_dir().unwrap();
    let mut options = NatsOptions::in_dir(dir.path().join("nats"));
    options.port = Port::Exactly(nats_port);
    let nats = Nats::start(options).await.unwrap();
    for started in &mut all {
        started.waits_for("nats", "chat4all provision").await;
    }
    let provisioner = client(&nats.url(), "provision").await;
    Log::provision(provisioner, &layout(1)).await.unwrap();

    let [mut commands, mut projector, mut bridges, mut everything] = all;
    commands.is_ready().await;
    bridges.is_ready().await;
    projector.waits_for("postgres", "does not answer").await;
    everything.waits_for("postgres", "does not answer").await;
    let mut options = PostgresOptions::in_dir(dir.path().join("postgres"));
    options.port = Port::Exactly(postgres_port);
    let _postgres = Postgres::start(options).await.unwrap();
    projector.is_ready().await;
    everything.is_ready().await;
    let (status, problem) = everything.get("/v1/anything").await.unwrap();
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    for started in [commands, projector, bridges, everything] {
        started.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_waits_can_be_stopped() {
    let nats_url = format!("nats://127.0.0.1:{}", free_port());
    let mut started = Started::role(Role::All, &nats_url, "postgres://127.0.0.1:1/x", &[]);
    started.waits_for("nats", "failed to connect to NATS").await;
    started.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_made_for_other_partitions_ends_the_role() {
    let node = crate::support::log::one_node().await;
    let four = [("CHAT4ALL_LOG__PARTITIONS", "4")];
    let url = node.nats.url();
    let started = Started::role(Role::CommandApi, &url, "postgres://127.0.0.1:1/x", &four);
    let error = started.fails().await;
    assert!(error.contains("chat4all.partitions"), "{error}");
}

/// A nats-server that asks who comes; ended at the end of the test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_end_the_role_when_the_broker_comes() {
    let port = free_port();
    let url = format!("nats://127.0.0.1:{port}");
    let login = [
        ("CHAT4ALL_NATS__USER", "chat4all"),
        ("CHAT4ALL_NATS__PASSWORD", "wrong"),
    ];
    let mut started = Started::role(Role::Bridges, &url, "postgres://127.0.0.1:1/x", &login);
    started.waits_for("nats", "failed to connect to NATS").await;
    let mut server = Command::new(NatsTools::find().unwrap().server);
    let listen = ["--addr", "127.0.0.1", "--port", &port.to_string()].map(ToOwned::to_owned);
    let users = ["--user", "chat4all", "--pass", "right"];
    let _server = Guarded(server.args(listen).args(users).spawn().unwrap());
    let error = started.fails().await;
    assert!(error.contains("authorization violation"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_sync_as_configured_is_not_ready_and_the_switch_says_so() {
    let dir = temp_dir().unwrap();
    let mut options = NatsOptions::in_dir(dir.path().join("nats"));
    options.sync_interval = "2m".into();
    let nats = Nats::start(options).await.unwrap();
    Log::provision(client(&nats.url(), "provision").await, &layout(1))
        .await
        .unwrap();
    let (url, monitor) = (nats.url(), nats.monitor_url());
    let strict = [
        ("CHAT4ALL_NATS__MONITOR_URL", monitor.as_str()),
        ("CHAT4ALL_NATS__SYNC", "always"),
    ];
    let postgres = "postgres://127.0.0.1:1/x";
    let mut started = Started::role(Role::CommandApi, &url, postgres, &strict);
    let says = "does not run with `sync_interval: always`";
    started.waits_for("nats_sync", says).await;
    started.stop().await;
    let relaxed = [strict[0], ("CHAT4ALL_NATS__SYNC", "relaxed")];
    let mut started = Started::role(Role::CommandApi, &url, postgres, &relaxed);
    started.is_ready().await;
    started.stop().await;
}
