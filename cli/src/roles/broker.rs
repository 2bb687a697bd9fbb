//! Whether the broker is as the configuration says.

use std::time::Duration;

use anyhow::Context as _;
use chat4all_nats::Log;
use chat4all_service::Config;
use chat4all_service::config::Sync;
use chat4all_service::health::Checks;
use serde_json::Value;
use url::Url;

/// How long a node's monitoring may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Readiness is red while the connection is down, and while a node of the broker does not write as `nats.sync` says.
///
/// # Errors
/// No HTTP client can be made.
pub fn register_checks(checks: &Checks, log: &Log, config: &Config) -> anyhow::Result<()> {
    if config.nats.sync == Sync::Always {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .build();
        let client = client.context("cannot make an HTTP client for NATS monitoring")?;
        let nodes = config.nats.monitor_url.clone();
        checks.register("nats_sync", move || {
            every_node_syncs_always(client.clone(), nodes.clone())
        });
    }
    // The last one: as long as it is red nobody takes the role for ready.
    let connection = log.clone();
    checks.register("nats", move || {
        let connected = connection.is_connected();
        async move {
            connected
                .then_some(())
                .ok_or_else(|| "no connection to NATS".to_owned())
        }
    });
    Ok(())
}

/// Red when a node writes otherwise, or when no node can be asked. A node that is away does not acknowledge anything.
async fn every_node_syncs_always(client: reqwest::Client, nodes: Vec<Url>) -> Result<(), String> {
    let mut asked = 0;
    for node in &nodes {
        let Some(always) = syncs_always(&client, node).await else {
            continue;
        };
        asked += 1;
        if !always {
            return Err(format!(
                "the node on {} does not run with `sync_interval: always`: what it acknowledges can be lost in a power \
                 cut; set it in its configuration, or say nats.sync = relaxed",
                shown(node)
            ));
        }
    }
    if asked > 0 {
        return Ok(());
    }
    let nodes: Vec<_> = nodes.iter().map(shown).collect();
    Err(format!(
        "NATS monitoring on {} does not answer, so it is not known whether acknowledged means on disk; set \
         nats.monitor_url, or nats.sync = relaxed",
        nodes.join(", ")
    ))
}

/// `None` when the node does not answer.
async fn syncs_always(client: &reqwest::Client, node: &Url) -> Option<bool> {
    let answer = client.get(node.join("varz").ok()?).send().await.ok()?;
    let varz: Value = answer.error_for_status().ok()?.json().await.ok()?;
    Some(varz["jetstream"]["config"]["sync_always"] == Value::Bool(true))
}

/// Host and port: a URL may hold more than a log should.
fn shown(node: &Url) -> String {
    let port = node.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", node.host_str().unwrap_or("?"))
}
