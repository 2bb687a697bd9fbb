//! A log, a database, and projectors that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_cli::embedded::{Postgres, PostgresOptions, temp_dir};
use chat4all_domain::{Partition, Position};
use chat4all_nats::Log;
use chat4all_postgres::{self as postgres, Projected, dump};
use chat4all_projector::{Config, Error, Metrics, Projector};
use chat4all_service::Shutdown;
use chat4all_service::config::Poison;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::support::log::{OneNode, one_node};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Every table as text.
pub type Dump = BTreeMap<&'static str, Vec<String>>;

pub struct Stack {
    pub node: OneNode,
    pub postgres: Postgres,
    _dir: TempDir,
}

/// How a projector is to run.
#[derive(Clone)]
pub struct How {
    pub schema: &'static str,
    pub batch: usize,
    pub gather: Duration,
    pub poison: Poison,
    pub metrics: Metrics,
    /// Who sees its spans; nobody by default.
    pub seen_by: Dispatch,
}

impl How {
    pub fn into(schema: &'static str) -> Self {
        Self {
            schema,
            batch: 500,
            gather: Duration::from_millis(5),
            poison: Poison::Park,
            metrics: Metrics::default(),
            seen_by: Dispatch::none(),
        }
    }
}

/// A projector at work.
pub struct Running {
    shutdown: Shutdown,
    task: JoinSet<Result<(), Error>>,
    /// What it owns.
    pub owned: watch::Sender<BTreeSet<Partition>>,
}

impl Running {
    /// Stops it as a signal would.
    pub async fn stop(mut self) {
        self.shutdown.stop();
        self.ended()
            .await
            .expect("a projector stops without an error");
    }
    /// Drops it where it stands: in the middle of a transaction, as `kill -9` would.
    pub async fn kill(mut self) {
        self.task.abort_all();
        while self.task.join_next().await.is_some() {}
    }
    /// Waits for its own end.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let ended = tokio::time::timeout(PATIENCE, self.task.join_next()).await;
        ended
            .expect("the projector ends")
            .expect("it ends once")
            .expect("it does not panic")
    }
}

impl Stack {
    pub async fn start() -> Self {
        Self::with(Box::pin(one_node())).await
    }

    /// With another broker than usual.
    pub async fn with(node: impl Future<Output = OneNode>) -> Self {
        let dir = temp_dir().expect("a temporary directory");
        let options = PostgresOptions {
            fsync: false,
            ..PostgresOptions::in_dir(dir.path().join("postgres"))
        };
        let (node, postgres) = tokio::join!(node, Postgres::start(options));
        Self {
            node,
            postgres: postgres.expect("Postgres starts"),
            _dir: dir,
        }
    }

    pub fn log(&self) -> &Log {
        &self.node.log
    }

    pub fn database(&self, schema: &str) -> postgres::Config {
        let schema = schema.parse().expect("a schema's name");
        postgres::Config::new(&self.postgres.url(), schema, "test").expect("our own URL")
    }

    pub fn pool(&self, schema: &str) -> PgPool {
        self.database(schema).pool(2)
    }

    /// Starts a projector of every partition.
    pub fn project(&self, how: &How) -> Running {
        let all = self.log().partitions().all().collect();
        let (owned, receiver) = watch::channel(all);
        let config = Config {
            log: self.log().clone(),
            postgres: self.database(how.schema),
            owned: receiver,
            batch: how.batch,
            gather: how.gather,
            poison: how.poison,
            metrics: how.metrics.clone(),
        };
        let shutdown = Shutdown::new();
        let mut task = JoinSet::new();
        let projecting = Projector::run(config, shutdown.clone());
        task.spawn(projecting.with_subscriber(how.seen_by.clone()));
        Running {
            shutdown,
            task,
            owned,
        }
    }

    /// Where each partition ends now.
    pub async fn ends(&self) -> Vec<Position> {
        let mut ends = Vec::new();
        for partition in self.log().partitions().all() {
            let deadline = Instant::now() + PATIENCE;
            let last = self.log().last_sequence(partition, deadline).await;
            ends.push(Position::new(partition, last.expect("the log answers")));
        }
        ends
    }

    /// Waits until `schema` has everything up to `position`, whatever Postgres goes through meanwhile.
    pub async fn projected_up_to(&self, schema: &str, position: Position) {
        let projected = Projected::new(self.pool(schema));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match projected.up_to(position, deadline).await {
                Ok(()) => return,
                Err(error) if Instant::now() >= deadline => {
                    panic!("{schema} does not reach {position}: {error:?}")
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until `schema` has everything that is on the log now.
    pub async fn level(&self, schema: &str) {
        for end in self.ends().await {
            self.projected_up_to(schema, end).await;
        }
    }

    pub async fn dump(&self, schema: &str) -> Dump {
        let mut connection = self.database(schema).connect().await.expect("a connection");
        dump::dump(&mut connection).await.expect("a dump")
    }

    /// Folds the whole log as `how` says, from the first event, and returns the tables.
    pub async fn fold(&self, how: &How) -> Dump {
        let running = self.project(how);
        self.level(how.schema).await;
        running.stop().await;
        self.dump(how.schema).await
    }
}

/// Fails with the first row that differs.
#[track_caller]
pub fn assert_same(left: &Dump, right: &Dump) {
    for (table, rows) in left {
        let others = &right[table];
        for (row, other) in rows.iter().zip(others) {
            assert_eq!(row, other, "table {table} differs");
        }
        assert_eq!(rows.len(), others.len(), "rows of table {table}");
    }
    assert_eq!(left.len(), right.len());
}
