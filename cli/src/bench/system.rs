//! The system under measurement, by the variables that its `env` file has: our own stack, or one that runs already.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chat4all_domain::Partition;
use chat4all_nats::Log;
use chat4all_nats::streams::Layout;
use chat4all_postgres::checkpoint::{self, Checkpoint};
use chat4all_service::Config;
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::clock;
use chat4all_service::config::Sources;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::time::sleep;

use crate::roles::database;
use crate::tool;

/// How long the read models may take to catch up after a run.
const CATCH_UP: Duration = Duration::from_secs(300);
/// How often is looked how far the read models are behind.
const LOOK: Duration = Duration::from_secs(1);
/// How long a token of ours counts: longer than any measurement.
const TOKEN_TTL: Duration = Duration::from_secs(86_400);
/// Without these there is nothing to measure.
const NEEDED: [&str; 3] = ["CHAT4ALL_URL", "CHAT4ALL_QUERY_URL", "CHAT4ALL_TOKEN"];

/// How many events the read models were behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    pub most: u64,
    pub at_the_end: u64,
}

/// A running system. Cheap enough to clone.
#[derive(Clone)]
pub(super) struct System {
    variables: BTreeMap<String, String>,
    client: reqwest::Client,
    webhooks: Option<String>,
}

impl std::fmt::Debug for System {
    /// The variables hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

impl System {
    /// The one that an `env` file describes, as `chat4all up` writes it: a line `export NAME='value'` each.
    ///
    /// # Errors
    /// The file cannot be read, or lacks something.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let env = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let variables = env.lines().filter_map(|line| {
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let value = value.trim_matches('\'').replace(r"'\''", "'");
            Some((name.trim().to_owned(), value))
        });
        let system = Self {
            variables: variables.collect(),
            client: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(60))
                .build()?,
            webhooks: None,
        };
        let missing = NEEDED.into_iter();
        let missing: Vec<_> = missing
            .filter(|name| system.variable(name).is_err())
            .collect();
        ensure!(
            missing.is_empty(),
            "{} lacks {}; `chat4all up` writes such a file as .chat4all/env",
            file.display(),
            missing.join(", ")
        );
        system
            .config()
            .with_context(|| format!("{} is not the configuration of a system", file.display()))?;
        Ok(system)
    }

    /// The same, asked at other addresses: those of a proxy in front of it, perhaps.
    #[must_use]
    pub fn at(
        mut self,
        commands: Option<&str>,
        queries: Option<&str>,
        webhooks: Option<&str>,
    ) -> Self {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        for (name, url) in [("CHAT4ALL_URL", commands), ("CHAT4ALL_QUERY_URL", queries)] {
            if let Some(url) = url {
                self.variables.insert(name.to_owned(), plain(url));
            }
        }
        self.webhooks = webhooks.map(plain);
        self
    }

    /// Where providers call: where commands are taken in, unless it was said otherwise.
    ///
    /// # Errors
    /// The system does not say where it is.
    pub fn webhooks(&self) -> anyhow::Result<&str> {
        let said = self.webhooks.as_deref().map(Ok);
        said.unwrap_or_else(|| self.variable("CHAT4ALL_URL"))
    }

    /// A variable of its `env` file.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn variable(&self, name: &str) -> anyhow::Result<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.with_context(|| format!("the system's env file has no {name}"))
    }

    /// Every variable of its `env` file.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// What nats-server says about its syncing.
    ///
    /// # Errors
    /// Its monitoring does not answer.
    pub async fn sync(&self) -> anyhow::Result<String> {
        // Of several nodes the first: they are configured alike, and readiness asks them all.
        let config = self.config()?;
        let monitor = config.nats.monitor_url.first();
        let monitor = monitor.context("nats.monitor_url is empty")?;
        sync_of(&self.client, monitor.as_str()).await
    }

    /// The configuration that its roles have.
    ///
    /// # Errors
    /// It is none.
    pub fn config(&self) -> anyhow::Result<Config> {
        let settings = self.variables.iter();
        let settings = settings.filter(|(name, _)| name.starts_with("CHAT4ALL_"));
        let sources = settings.fold(Sources::new(), |sources, (name, value)| {
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
    /// See [`System::config`].
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

    /// A token for `sub`, who may only read what is theirs.
    ///
    /// # Errors
    /// See [`System::config`].
    pub fn reader_token(&self, sub: &str) -> anyhow::Result<String> {
        let auth = self.config()?.auth;
        let grant = Grant {
            sub,
            scopes: &[Scope::ConversationsRead],
            ttl: TOKEN_TTL,
        };
        let audience = auth.audience.as_deref();
        Ok(mint(
            &auth.hs256_secret,
            &auth.issuer,
            audience,
            &grant,
            clock::now(),
        ))
    }

    /// Waits until the read models have everything that is on the log now.
    ///
    /// # Errors
    /// It takes longer than five minutes.
    pub async fn catch_up(&self, log: &Log) -> anyhow::Result<()> {
        let (begun, mut connection) = (Instant::now(), self.database().await?);
        let ends = ends(log).await?;
        loop {
            let behind = behind(&ends, &checkpoint::read(&mut connection).await?);
            if behind == 0 {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < CATCH_UP,
                "the read models are still {behind} events behind"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Does `work`, and looks meanwhile, each second and at its end, how many events the read models are behind: the most, and what
    /// they were at the end. What comes between the question for the checkpoints and that for the log's end counts, too.
    ///
    /// # Errors
    /// Those of `work`; the broker or Postgres does not answer.
    pub async fn watching_lag<T>(
        &self,
        log: &Log,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(T, Lag)> {
        let (mut meanwhile, mut last) = (self.database().await?, self.database().await?);
        let mut most = 0;
        // Side by side: a look that takes its time holds up no work.
        let done = tokio::select! {
            done = work => done?,
            trouble = look_each_second(log, &mut meanwhile, &mut most) => match trouble? {},
        };
        let at_the_end = missing(log, &mut last).await?;
        let most = most.max(at_the_end);
        Ok((done, Lag { most, at_the_end }))
    }

    /// How many envelopes the log holds.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn envelopes(&self, log: &Log) -> anyhow::Result<u64> {
        let mut all = 0;
        for partition in log.partitions().all() {
            all += log.stream(partition).get_info().await?.state.last_sequence;
        }
        Ok(all)
    }

    /// A request to the API as the developer; the body of a success.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.variable("CHAT4ALL_URL")?);
        let request = self.client.post(url);
        let request = request.bearer_auth(self.variable("CHAT4ALL_TOKEN")?);
        answer(request.json(body)).await
    }
}

/// What the nats-server with this monitoring says about its syncing.
///
/// # Errors
/// It does not answer.
pub(super) async fn sync_of(client: &reqwest::Client, monitor: &str) -> anyhow::Result<String> {
    let url = format!("{}/varz", monitor.trim_end_matches('/'));
    let varz: Value = client.get(url).send().await?.json().await?;
    let config = &varz["jetstream"]["config"];
    Ok(format!(
        "sync_always {}, sync_interval {} ns",
        config["sync_always"], config["sync_interval"]
    ))
}

/// The body of a success.
///
/// # Errors
/// It was refused, or not answered.
pub(super) async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("{status}: {text}");
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Keeps in `most` the most that [`missing`] said; ends with trouble alone.
async fn look_each_second(
    log: &Log,
    connection: &mut PgConnection,
    most: &mut u64,
) -> anyhow::Result<Infallible> {
    loop {
        sleep(LOOK).await;
        *most = (*most).max(missing(log, connection).await?);
    }
}

/// How many events the log has that the read models have not.
async fn missing(log: &Log, connection: &mut PgConnection) -> anyhow::Result<u64> {
    let folded = checkpoint::read(connection).await?;
    Ok(behind(&ends(log).await?, &folded))
}

/// The last sequence of each partition.
async fn ends(log: &Log) -> anyhow::Result<BTreeMap<Partition, u64>> {
    let deadline = tokio::time::Instant::now() + CATCH_UP;
    let ends = log.partitions().all().map(async |partition| {
        let end = log.last_sequence(partition, deadline).await?;
        anyhow::Ok((partition, end))
    });
    let ends = futures::future::try_join_all(ends).await?;
    Ok(ends.into_iter().collect())
}

fn behind(ends: &BTreeMap<Partition, u64>, folded: &BTreeMap<Partition, Checkpoint>) -> u64 {
    let missing = ends.iter().map(|(partition, end)| {
        let folded = folded.get(partition).map_or(0, |at| at.sequence);
        end.saturating_sub(folded)
    });
    missing.sum()
}
