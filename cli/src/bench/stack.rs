//! The stack that is measured: a `chat4all up` of this very binary, in a temporary directory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chat4all_nats::Log;
use chat4all_nats::streams::Layout;
use chat4all_postgres::checkpoint;
use chat4all_service::Config;
use chat4all_service::config::Sources;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::embedded::{
    Launch, Process, chat4all_program, children_of, log_tail, open_log, temp_dir,
};
use crate::guard::DeathSignal;
use crate::roles::database;
use crate::tool;

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_GRACE: Duration = Duration::from_secs(60);
/// How long the read models may take to catch up after a run.
const CATCH_UP: Duration = Duration::from_secs(300);
/// Far from the ports of a `make run` beside it.
const HTTP_PORT: &str = "18480";
const NATS_PORT: &str = "14222";

/// A running system.
#[derive(Debug)]
pub(super) struct Stack {
    variables: BTreeMap<String, String>,
    /// From the launch until it said that it runs.
    pub started_in: Duration,
    client: reqwest::Client,
    process: Process,
    dir: tempfile::TempDir,
}

impl Stack {
    /// Where the simulator is, unless something else has its port.
    pub const SIMULATOR: &str = "http://127.0.0.1:18500";

    /// Starts one with these variables besides the defaults.
    ///
    /// # Errors
    /// It does not come up; the end of what it said is in the error.
    pub async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(temp_dir()?, settings).await
    }

    async fn start_in(dir: tempfile::TempDir, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let output = dir.path().join("up.log");
        let environment = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let begun = Instant::now();
        let arguments = [
            "up",
            "--http-port",
            HTTP_PORT,
            "--nats-port",
            NATS_PORT,
            "--dir",
        ];
        let process = Process::spawn(Launch {
            name: "chat4all up".to_owned(),
            program: chat4all_program()?,
            arguments: arguments
                .iter()
                .map(Into::into)
                .chain([dir.path().into()])
                .collect(),
            environment: environment.collect(),
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
        let env = std::fs::read_to_string(dir.path().join("env"))?;
        let variables = env.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()?;
        Ok(Self {
            variables: variables.collect(),
            started_in,
            client,
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
        Self::start_in(self.dir, &[]).await
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

    /// A variable of its `env` file.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn variable(&self, name: &str) -> anyhow::Result<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.with_context(|| format!("`up` wrote no {name}"))
    }

    /// Every variable of its `env` file.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// What nats-server says about its syncing.
    pub async fn sync(&self) -> anyhow::Result<String> {
        let url = format!(
            "{}/varz",
            self.variable("CHAT4ALL_NATS__MONITOR_URL")?
                .trim_end_matches('/')
        );
        let varz: Value = self.client.get(url).send().await?.json().await?;
        let config = &varz["jetstream"]["config"];
        Ok(format!(
            "sync_always {}, sync_interval {} ns",
            config["sync_always"], config["sync_interval"]
        ))
    }

    /// The configuration that its roles have.
    fn config(&self) -> anyhow::Result<Config> {
        let variables = self.variables.iter();
        let sources = variables.fold(Sources::new(), |sources, (name, value)| {
            sources.with_variable(name, value)
        });
        Ok(Config::load(&sources)?.config)
    }

    /// Its log, by a connection of our own.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn log(&self) -> anyhow::Result<Log> {
        tool::open_log(&self.config()?, "bench").await
    }

    /// How its log is laid out.
    ///
    /// # Errors
    /// `up` wrote something that is no configuration.
    pub fn layout(&self) -> anyhow::Result<Layout> {
        Ok(tool::layout(&self.config()?))
    }

    /// The database, as its roles reach it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn database(&self) -> anyhow::Result<sqlx::PgConnection> {
        Ok(database(&self.config()?, "bench")?
            .connect_for_long()
            .await?)
    }

    /// Waits until the read models have everything that is on the log now; how many events they were behind.
    ///
    /// # Errors
    /// It takes longer than five minutes.
    pub async fn catch_up(&self, log: &Log) -> anyhow::Result<u64> {
        let (begun, mut connection) = (Instant::now(), self.database().await?);
        let mut ends = BTreeMap::new();
        for partition in log.partitions().all() {
            let deadline = tokio::time::Instant::now() + CATCH_UP;
            ends.insert(partition, log.last_sequence(partition, deadline).await?);
        }
        let mut first = None;
        loop {
            let checkpoints = checkpoint::read(&mut connection).await?;
            let behind = ends.iter().map(|(partition, end)| {
                end.saturating_sub(
                    checkpoints
                        .get(partition)
                        .map_or(0, |checkpoint| checkpoint.sequence),
                )
            });
            let behind: u64 = behind.sum();
            let first = *first.get_or_insert(behind);
            if behind == 0 {
                return Ok(first);
            }
            ensure!(
                begun.elapsed() < CATCH_UP,
                "the read models are still {behind} events behind"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A request to the API as the developer; the body of a success.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.variable("CHAT4ALL_URL")?);
        let request = self
            .client
            .post(url)
            .bearer_auth(self.variable("CHAT4ALL_TOKEN")?);
        answer(request.json(body)).await
    }

    /// Of the simulator's control API.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn simulator(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let url = format!("{}/_sim/{path}", self.variable("CHAT4ALL_SIMULATOR_URL")?);
        answer(self.client.request(method, url).json(body)).await
    }

    /// So many conversations with one WhatsApp recipient each, on the accounts in turn.
    ///
    /// # Errors
    /// As [`Stack::post`].
    pub async fn recipients(&self, count: usize, accounts: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut conversations = Vec::with_capacity(count);
        for n in 0..count {
            let recipient =
                json!({"channel": accounts[n % accounts.len()], "address": format!("4917{n:08}")});
            let body = json!({"kind": "direct", "participants": [recipient]});
            let direct = self.post("/v1/conversations", &body).await?;
            conversations.push(
                direct["conversation_id"]
                    .as_str()
                    .context("no conversation_id")?
                    .to_owned(),
            );
        }
        Ok(conversations)
    }

    /// How many calls the provider has accepted since it was started.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn handed_over(&self) -> anyhow::Result<u64> {
        let stats = self.simulator(Method::GET, "stats", &Value::Null).await?;
        stats["calls"]["accepted"]
            .as_u64()
            .context("the simulator does not count")
    }

    /// Waits until the provider has accepted so many calls since it was started.
    ///
    /// # Errors
    /// That takes longer than `patience`.
    pub async fn until_handed_over(&self, total: u64, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let so_far = self.handed_over().await?;
            if so_far >= total {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < patience,
                "the provider has {so_far} calls of {total}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The provider's records of calls behind number `since`, oldest first.
    ///
    /// # Errors
    /// The simulator does not answer, or has dropped some.
    pub async fn calls(&self, mut since: u64) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let path = format!("calls?since={since}&limit=1000");
            let mut page = self.simulator(Method::GET, &path, &Value::Null).await?;
            let items = page["items"].as_array_mut().context("no items")?;
            let Some(last) = items.last() else {
                return Ok(all);
            };
            since = last["seq"].as_u64().context("a call without a number")?;
            all.append(items);
        }
    }

    /// So many groups of the developer and one other user: nobody outside.
    ///
    /// # Errors
    /// As [`Stack::post`].
    pub async fn groups(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut groups = Vec::with_capacity(count);
        for _ in 0..count {
            let body =
                json!({"kind": "group", "participants": [{"user_id": uuid::Uuid::now_v7()}]});
            let group = self.post("/v1/conversations", &body).await?;
            groups.push(
                group["conversation_id"]
                    .as_str()
                    .context("no conversation_id")?
                    .to_owned(),
            );
        }
        Ok(groups)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}
