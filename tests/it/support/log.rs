//! A log of its own for a test.

use std::time::Duration;

use chat4all_cli::embedded::{Nats, NatsOptions, temp_dir};
use chat4all_domain::{Partition, PartitionCount, Timestamp};
use chat4all_nats::connect::{self, Config};
use chat4all_nats::execute::{Assume, Context, Purpose, Retry};
use chat4all_nats::{Log, streams::Layout};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a test waits for a broker that elects.
const PATIENCE: Duration = Duration::from_secs(60);

/// One node in a directory that goes away.
pub struct OneNode {
    pub nats: Nats,
    pub log: Log,
    _dir: TempDir,
}

/// A broker with nothing on it, in a directory that goes away.
pub struct EmptyNode {
    pub nats: Nats,
    _dir: TempDir,
}

impl EmptyNode {
    /// The log that somebody has made on it.
    pub async fn opened(self) -> OneNode {
        let log = opened(&self.nats.url(), "test", &layout(1)).await;
        OneNode {
            nats: self.nats,
            log,
            _dir: self._dir,
        }
    }
}

pub async fn empty_node() -> EmptyNode {
    let dir = temp_dir().expect("a temporary directory");
    let nats = Nats::start(NatsOptions::in_dir(dir.path()))
        .await
        .expect("nats-server starts");
    EmptyNode { nats, _dir: dir }
}

pub fn layout(replicas: usize) -> Layout {
    let partitions = PartitionCount::new(8).expect("8 is between 1 and 64");
    Layout {
        partitions,
        replicas,
        max_bytes: 1 << 30,
    }
}

/// One that writes to disk when it likes: for filling a log quickly.
pub async fn relaxed_node() -> OneNode {
    let dir = temp_dir().expect("a temporary directory");
    let options = NatsOptions {
        sync_interval: "2m".to_owned(),
        ..NatsOptions::in_dir(dir.path())
    };
    let nats = Nats::start(options).await.expect("nats-server starts");
    let log = provisioned(&nats.url(), &layout(1)).await;
    OneNode {
        nats,
        log,
        _dir: dir,
    }
}

pub async fn one_node() -> OneNode {
    let EmptyNode { nats, _dir } = empty_node().await;
    let log = provisioned(&nats.url(), &layout(1)).await;
    OneNode { nats, log, _dir }
}

pub async fn client(url: &str, name: &str) -> chat4all_nats::Client {
    connect::connect(&Config::new(url, name))
        .await
        .expect("the broker answers")
}

pub async fn provisioned(url: &str, layout: &Layout) -> Log {
    let (log, _) = Log::provision(client(url, "provision").await, layout)
        .await
        .expect("a fresh log");
    log
}

/// The log as it stands. A cluster that has just lost a node has streams without a leader for a while: then it is asked again.
pub async fn opened(url: &str, name: &str, layout: &Layout) -> Log {
    let (client, begun) = (client(url, name).await, Instant::now());
    loop {
        match Log::open(client.clone(), layout).await {
            Ok(log) => return log,
            Err(error) if error.passes() && begun.elapsed() < PATIENCE => {
                println!("asked again for the log: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("the log is there: {error:?}"),
        }
    }
}

/// Which node leads a partition's stream, if one does.
pub async fn leader_of(log: &Log, partition: Partition) -> Option<String> {
    log.stream(partition).get_info().await.ok()?.cluster?.leader
}

/// Which node leads a partition's stream, as soon as one does.
pub async fn leader(log: &Log, partition: Partition) -> String {
    let begun = Instant::now();
    loop {
        if let Some(leader) = leader_of(log, partition).await {
            return leader;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody leads {partition}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes a node of a cluster the leader of a partition's stream.
pub async fn led_by(log: &Log, partition: Partition, node: &str) {
    let begun = Instant::now();
    let subject = format!(
        "$JS.API.STREAM.LEADER.STEPDOWN.{}",
        chat4all_nats::streams::name(partition)
    );
    let wish = serde_json::json!({ "placement": { "preferred": node } }).to_string();
    while leader_of(log, partition).await.as_deref() != Some(node) {
        assert!(
            begun.elapsed() < PATIENCE,
            "{node} does not lead {partition}"
        );
        // Refused while it is behind, or nobody leads: asked again.
        let asked = log.client().request(subject.clone(), wish.clone().into());
        println!(
            "{partition} for {node}: {:?}",
            asked.await.map(|m| m.payload)
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A context that gives a command `seconds`.
pub fn context(seconds: u64) -> Context {
    Context {
        now: Timestamp::from_unix_ms(1_764_000_000_000),
        deadline: Instant::now() + Duration::from_secs(seconds),
        retry: Retry::UntilDeadline,
        traceparent: None,
        purpose: Purpose::Outcome,
        assume: Assume::Nothing,
    }
}
