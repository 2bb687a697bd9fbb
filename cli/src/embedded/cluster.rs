//! Three nats-servers that form a cluster, on one machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::nats::{Node, Ports};
use super::nats_config::{self, Environment};
use super::{Nats, Port, StartError};

const NODES: usize = 3;
/// How long the nodes may take to find each other and elect a leader: usually half a second. On a busy machine the first
/// votes may be split, and the next come only 4 to 9 s later.
const FORM_PATIENCE: Duration = Duration::from_secs(60);
/// How often ports that somebody else takes are chosen anew.
const PORT_ATTEMPTS: u32 = 5;

/// How to run a cluster. `ClusterOptions::in_dir(dir)` and then what differs.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Directory that holds one directory per node.
    pub dir: PathBuf,
    /// `always` by default, as [`super::NatsOptions::sync_interval`].
    pub sync_interval: String,
    /// Most that all file streams of a node may take, in NATS' notation; `20GB` by default.
    pub max_file: String,
}

impl ClusterOptions {
    /// The defaults, in this directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync_interval: "always".into(),
            max_file: "20GB".into(),
        }
    }
}

/// Three nodes on 127.0.0.1, for streams with three replicas. Dropping it kills them.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Nats>,
}

impl NatsCluster {
    /// Starts the nodes and waits until all three take part, so that a stream with three replicas can be made.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: ClusterOptions) -> Result<Self, StartError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut cluster = Self {
                nodes: prepare(&options)?,
            };
            match cluster.serve().await {
                Ok(()) => return Ok(cluster),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Addresses of all nodes, comma-separated, as clients take them.
    pub fn url(&self) -> String {
        self.nodes
            .iter()
            .map(Nats::url)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The three nodes, always in the same order.
    pub fn nodes(&self) -> &[Nats] {
        &self.nodes
    }

    /// One node, to stop, kill, suspend or restart it.
    ///
    /// # Panics
    /// If there is no such node: 0, 1 and 2 there are.
    pub fn node(&mut self, index: usize) -> &mut Nats {
        &mut self.nodes[index]
    }

    /// The place of a node among [`Self::nodes`] by its name, as a stream's `leader` has it.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name() == name)
    }

    /// Waits until all three nodes are healthy and current.
    ///
    /// # Errors
    /// [`StartError::Ended`] when a node has ended by itself, [`StartError::NotReady`] after a minute.
    pub async fn formed(&self) -> Result<(), StartError> {
        let deadline = Instant::now() + FORM_PATIENCE;
        loop {
            let seen = self.look().await;
            // Looked at each time: two nodes would wait for the third for ever.
            if let Some(error) = self.nodes.iter().find_map(Nats::ended) {
                return Err(error);
            }
            let Err(last_seen) = seen else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(StartError::NotReady {
                    program: "the NATS cluster".into(),
                    after: FORM_PATIENCE,
                    last_seen,
                    log: "(each node has its own)".into(),
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is missing until all take part.
    async fn look(&self) -> Result<(), String> {
        for node in &self.nodes {
            node.health().await?;
        }
        match self.metadata_group().await {
            Some(group) if all_current(&group) => Ok(()),
            Some(group) => Err(group.to_string()),
            None => Err("no node leads".into()),
        }
    }

    async fn serve(&mut self) -> Result<(), StartError> {
        for node in &mut self.nodes {
            node.launch().await?;
        }
        self.formed().await
    }

    /// What the leader of JetStream's metadata says of the others; a follower's list is not kept current.
    async fn metadata_group(&self) -> Option<Value> {
        for node in &self.nodes {
            let (_, body) = node.monitor("/jsz").await.ok()?;
            let mut page: Value = serde_json::from_str(&body).ok()?;
            let group = page["meta_cluster"].take();
            if group["leader"] == node.name() {
                return Some(group);
            }
        }
        None
    }
}

fn all_current(group: &Value) -> bool {
    let others = group["replicas"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    others.len() == NODES - 1
        && others
            .iter()
            .all(|node| node["current"] == true && node["offline"] != true)
}

fn prepare(options: &ClusterOptions) -> Result<Vec<Nats>, StartError> {
    let ports = Port::several(3 * NODES)?;
    let (client, rest) = ports.split_at(NODES);
    let (monitor, route) = rest.split_at(NODES);
    let routes: Vec<String> = route
        .iter()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    let environment = Environment::defaults()
        .with("NATS_SYNC_INTERVAL", &options.sync_interval)
        .with("NATS_MAX_FILE", &options.max_file)
        // Of its own: nodes of another cluster that come by on a port that was theirs are refused.
        .with(
            "NATS_CLUSTER_NAME",
            format!("chat4all-{:08x}", fastrand::u32(..)),
        )
        .with(
            "NATS_ROUTES",
            serde_json::to_string(&routes).expect("a list of strings"),
        );
    (0..NODES)
        .map(|index| {
            let name = format!("chat4all-{}", index + 1);
            let dir = options.dir.join(&name);
            let log = options.dir.join(format!("{name}.log"));
            let listen = format!("127.0.0.1:{}", route[index]);
            let environment = environment.clone().with("NATS_CLUSTER_LISTEN", listen);
            let ports = Ports {
                client: client[index],
                monitor: monitor[index],
            };
            let node = Node {
                name,
                configuration: nats_config::CLUSTER,
                environment,
            };
            Nats::prepare(&dir, &log, ports, node)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::temp_dir;
    use super::*;

    #[tokio::test]
    async fn a_node_whose_port_somebody_took_is_noticed_at_once() {
        let dir = temp_dir().unwrap();
        let nodes = prepare(&ClusterOptions::in_dir(dir.path())).unwrap();
        let mut cluster = NatsCluster { nodes };
        // Between choosing and starting; and whoever has it answers there.
        let _faster = TcpListener::bind(("127.0.0.1", cluster.nodes[2].port())).unwrap();
        let began = Instant::now();
        let error = cluster.serve().await.unwrap_err();
        assert!(error.is_port_taken(), "{error}");
        assert!(began.elapsed() < FORM_PATIENCE / 2, "{:?}", began.elapsed());
    }
}
