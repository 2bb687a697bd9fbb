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

/// Readiness is red while the connection is down, and while a node does not write as `nats.sync` says.
///
/// # Errors
/// No HTTP client can be made.
pub fn register_checks(checks: &Checks, log: &Log, config: &Config) -> anyhow::Result<()> {
    let connection = log.clone();
    checks.register("nats", move || {
        let connected = connection.is_connected();
        async move {
            connected
                .then_some(())
                .ok_or_else(|| "no connection to NATS".to_owned())
        }
    });
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
    Ok(())
}

async fn every_node_syncs_always(client: reqwest::Client, nodes: Vec<Url>) -> Result<(), String> {
    for node in nodes {
        let shown = node
            .host_str()
            .map_or_else(|| "?".to_owned(), ToOwned::to_owned);
        let shown = format!(
            "{shown}:{}",
            node.port_or_known_default().unwrap_or_default()
        );
        let page = node
            .join("varz")
            .map_err(|error| format!("nats.monitor_url {shown}: {error}"))?;
        let answer = client.get(page).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        let unknown = |_| {
            format!(
                "NATS monitoring on {shown} does not answer, so it is not known whether acknowledged means on disk; \
                 set nats.monitor_url (or nats.sync = relaxed)"
            )
        };
        let varz: Value = answer.map_err(unknown)?.json().await.map_err(unknown)?;
        if varz["jetstream"]["config"]["sync_always"] != Value::Bool(true) {
            return Err(format!(
                "the node on {shown} does not run with `sync_interval: always`: what it acknowledges can be lost in a \
                 power cut; set it in its configuration, or say nats.sync = relaxed"
            ));
        }
    }
    Ok(())
}
