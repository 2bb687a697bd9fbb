//! How many envelopes per second the log takes, by number of partitions, on one node and on three (docs/adr/0002-log.md).
//!
//! ```sh
//! make .tools/.stamp && cargo run --release -p chat4all-nats --example publish_rate -- --seconds 5 --rounds 3
//! ```
//! Starts its own nats-servers on loopback with the shipped configuration (`sync_interval: always`), appends through the
//! same function as everything else, each envelope to an aggregate of its own, and prints the median of the rounds. Rounds
//! go through all settings in turn, so that what the machine does meanwhile hits all of them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat4all_domain::{CommandId, PartitionCount, Revision};
use chat4all_nats::append::{Append, append};
use chat4all_nats::connect::{self, Config};
use chat4all_nats::{Log, streams, subject};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

const PAYLOAD_BYTES: usize = 512;
const PARTITIONS: [u8; 4] = [1, 4, 8, 16];
const IN_FLIGHT: [usize; 2] = [1, 64];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = argument("--seconds", 5);
    let rounds = argument("--rounds", 3);
    let mut rates: BTreeMap<(usize, usize, u8), Vec<u64>> = BTreeMap::new();
    for round in 1..=rounds {
        for nodes in [1, 3] {
            for partitions in PARTITIONS {
                let servers = Servers::start(nodes)?;
                let log = provisioned(&servers.url(), nodes, partitions).await?;
                for in_flight in IN_FLIGHT {
                    let rate = measure(&log, in_flight, Duration::from_secs(seconds)).await;
                    eprintln!(
                        "round {round}: R{nodes} P={partitions} in flight {in_flight}: {rate}/s"
                    );
                    rates
                        .entry((nodes, in_flight, partitions))
                        .or_default()
                        .push(rate);
                }
            }
        }
    }
    println!(
        "| publishes/s, `always`, {PAYLOAD_BYTES} B | P=1 | P=4 | P=8 | P=16 |\n|---|---|---|---|---|"
    );
    for nodes in [1, 3] {
        for in_flight in IN_FLIGHT {
            let row = PARTITIONS.map(|partitions| spread(&rates[&(nodes, in_flight, partitions)]));
            println!("| R{nodes}, {in_flight} in flight | {} |", row.join(" | "));
        }
    }
    Ok(())
}

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments
        .nth(1)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// The median, and in parentheses the least and the most.
fn spread(rates: &[u64]) -> String {
    let mut sorted = rates.to_vec();
    sorted.sort_unstable();
    let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
    format!("{} ({least}–{most})", sorted[sorted.len() / 2])
}

async fn measure(log: &Log, in_flight: usize, time: Duration) -> u64 {
    let (done, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let end = begun + time;
    let mut writers = JoinSet::new();
    for _ in 0..in_flight {
        let (log, done) = (log.clone(), Arc::clone(&done));
        writers.spawn(async move {
            while Instant::now() < end {
                let envelope = envelope(&log);
                match append(&log, &envelope, end + Duration::from_secs(10)).await {
                    Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => eprintln!("{error}"),
                }
            }
        });
    }
    while writers.join_next().await.is_some() {}
    (done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()) as u64
}

/// A message's first envelope, with the headers that every envelope has.
fn envelope(log: &Log) -> Append {
    let id = chat4all_domain::ConversationId::new(Uuid::now_v7());
    let command_id = CommandId::new(Uuid::now_v7());
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("command-id", command_id.to_string());
    headers.insert("event-types", "MessageAccepted");
    headers.insert("event-versions", "1");
    headers.insert(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    Append {
        partition: log.partition_of(&id),
        subject: subject::of(log.partitions(), &id),
        command_id,
        expected: Revision::NONE,
        headers,
        payload: vec![b'x'; PAYLOAD_BYTES].into(),
    }
}

async fn provisioned(
    url: &str,
    nodes: usize,
    partitions: u8,
) -> Result<Log, Box<dyn std::error::Error>> {
    let partitions = PartitionCount::new(partitions).ok_or("1 to 64 partitions")?;
    let layout = streams::Layout {
        partitions,
        replicas: nodes,
        max_bytes: 8 << 30,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let config = Config::new(url, "publish_rate");
        let error: Box<dyn std::error::Error> = match connect::connect(&config).await {
            Ok(client) => match Log::provision(client, &layout).await {
                Ok((log, _)) => return Ok(log),
                Err(error) => error.into(),
            },
            Err(error) => error.into(),
        };
        if Instant::now() > deadline {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// nats-servers of our own; gone with the value.
struct Servers {
    children: Vec<Child>,
    ports: Vec<u16>,
    dir: PathBuf,
}

impl Servers {
    fn start(nodes: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let dir = std::env::temp_dir().join(format!("publish_rate-{}", Uuid::now_v7()));
        let ports = free_ports(nodes * 3)?;
        let routes: Vec<_> = ports[nodes * 2..]
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let mut servers = Self {
            children: Vec::new(),
            ports: ports[..nodes].to_vec(),
            dir,
        };
        for node in 0..nodes {
            let store = servers.dir.join(node.to_string());
            std::fs::create_dir_all(&store)?;
            let name = if nodes == 1 {
                "nats-server.conf"
            } else {
                "nats-cluster.conf"
            };
            let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            let mut command = Command::new(".tools/bin/nats-server");
            command.args(["-c".as_ref(), conf.as_os_str()]);
            for (name, value) in defaults() {
                command.env(name, value);
            }
            command
                .env("NATS_SERVER_NAME", format!("node-{node}"))
                .env("NATS_STORE_DIR", format!("\"{}\"", store.display()))
                .env("NATS_LISTEN", format!("127.0.0.1:{}", ports[node]))
                .env("NATS_MONITOR", format!("127.0.0.1:{}", ports[nodes + node]))
                .env(
                    "NATS_CLUSTER_LISTEN",
                    format!("127.0.0.1:{}", ports[nodes * 2 + node]),
                )
                .env("NATS_ROUTES", serde_json::to_string(&routes)?)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            servers.children.push(command.spawn()?);
        }
        Ok(servers)
    }

    fn url(&self) -> String {
        let urls: Vec<_> = self
            .ports
            .iter()
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        urls.join(",")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill().and_then(|()| child.wait().map(drop));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<Vec<_>, _>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// `nats-server.env`, as an operator would source it.
fn defaults() -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("../nats-server.env").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect()
}
