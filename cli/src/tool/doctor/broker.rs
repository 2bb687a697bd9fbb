//! The broker: whether it answers, takes what we store, and writes before it acknowledges.

use std::time::Duration;

use chat4all_nats::Client;
use chat4all_nats::connect::{self, MIN_MAX_PAYLOAD};
use chat4all_service::config::Sync;
use chat4all_service::{Chain, Config, clock};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use url::Url;

use super::finding::{Area, Finding};
use crate::tool::{FROM_UP, broker};

/// How long a node's monitoring may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// From this share of the broker's disk on somebody should act, in percent.
const STORE_FULL_PERCENT: u64 = 85;
/// Clocks that differ by more make times of events, of tokens and of leases wrong.
pub const CLOCKS_MAY_DIFFER: Duration = Duration::from_secs(2);

/// A connection, if there is one, and what is wrong with the broker.
pub async fn look(config: &Config) -> (Option<Client>, Vec<Finding>) {
    let mut found = Vec::new();
    let client = match broker(config, "doctor").await {
        Ok(client) => Some(client),
        Err(error) => {
            found.push(unconnected(config, &error));
            None
        }
    };
    for node in &config.nats.monitor_url {
        let began = (Instant::now(), clock::now());
        match varz(node).await {
            Some(varz) => found.extend(node_findings(config, node, &varz, began)),
            None if config.nats.sync == Sync::Always => found.push(Finding::wrong(
                Area::Broker,
                format!("the monitoring of NATS on {} does not answer", shown(node)),
                "every node tells there whether it writes before it acknowledges; a node that is away is to come back",
                format!("start the node, or set CHAT4ALL_NATS__MONITOR_URL to where its `http` listens; {FROM_UP}"),
            )),
            None => {}
        }
    }
    (client, found)
}

fn unconnected(config: &Config, error: &anyhow::Error) -> Finding {
    let urls: Vec<_> = config.nats.url.iter().map(shown).collect();
    let urls = urls.join(", ");
    let wrong =
        |what: String, right: &str, mend: &str| Finding::wrong(Area::Broker, what, right, mend);
    match error.downcast_ref::<connect::Error>() {
        Some(connect::Error::MaxPayload { found, .. }) => wrong(
            format!("NATS on {urls} takes messages of {found} bytes at most"),
            &format!("at least {MIN_MAX_PAYLOAD} bytes: a webhook call may be that large"),
            "set `max_payload: 8MB` in the server's configuration (nats/nats-server.conf has it) and reload it",
        ),
        Some(connect::Error::Credentials(why)) => wrong(
            format!("the credentials file of NATS cannot be read: {why}"),
            "a credentials file that this user may read",
            "set CHAT4ALL_NATS__CREDENTIALS_FILE, or the file's mode",
        ),
        Some(error) if error.passes() => wrong(
            format!("no NATS server answers on {urls}: {}", Chain(error)),
            "a nats-server with JetStream",
            &format!(
                "start it as it was started (`make run`, `chat4all up`, `docker compose up -d`, `systemctl start chat4all-nats`), \
                 or set CHAT4ALL_NATS__URL; {FROM_UP}"
            ),
        ),
        refused => {
            // Without the sentence around it, which asks whether the server is up: it is.
            let why = match refused {
                Some(error) => Chain(error).to_string(),
                None => format!("{error:#}"),
            };
            wrong(
                format!("NATS on {urls} refuses the connection: {why}"),
                "the user that the server knows",
                "set CHAT4ALL_NATS__USER and CHAT4ALL_NATS__PASSWORD, or CHAT4ALL_NATS__CREDENTIALS_FILE",
            )
        }
    }
}

/// What a node says of itself; `None` when it does not answer.
async fn varz(node: &Url) -> Option<Value> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .ok()?;
    let answer = client.get(node.join("varz").ok()?).send().await.ok()?;
    answer.error_for_status().ok()?.json().await.ok()
}

fn node_findings(
    config: &Config,
    node: &Url,
    varz: &Value,
    began: (Instant, OffsetDateTime),
) -> Vec<Finding> {
    let mut found = Vec::new();
    let (place, jetstream) = (shown(node), &varz["jetstream"]);
    let mut wrong = |what: String, right: &str, mend: &str| {
        found.push(Finding::wrong(Area::Broker, what, right, mend));
    };
    if jetstream["config"]
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        wrong(
            format!("the NATS node on {place} runs without JetStream: it cannot keep a log"),
            "a `jetstream` block with a store_dir",
            "start it with nats/nats-server.conf",
        );
        return found;
    }
    if config.nats.sync == Sync::Always && jetstream["config"]["sync_always"] != Value::Bool(true) {
        wrong(
            format!(
                "the NATS node on {place} acknowledges before it has written to disk: a power cut takes back what was accepted"
            ),
            "`sync_interval: always`",
            "set NATS_SYNC_INTERVAL=always and restart the node, or say CHAT4ALL_NATS__SYNC=relaxed and mean it",
        );
    }
    let (used, most) = (
        &jetstream["stats"]["storage"],
        &jetstream["config"]["max_storage"],
    );
    if let (Some(used), Some(most @ 1..)) = (used.as_u64(), most.as_u64())
        && used.saturating_mul(100) / most >= STORE_FULL_PERCENT
    {
        wrong(
            format!(
                "the NATS node on {place} has used {} % of what it may keep",
                used.saturating_mul(100) / most
            ),
            &format!("less than {STORE_FULL_PERCENT} %"),
            "raise NATS_MAX_FILE where the disk has room, and restart the node",
        );
    }
    let now = varz["now"]
        .as_str()
        .and_then(|now| OffsetDateTime::parse(now, &Rfc3339).ok());
    if let Some(now) = now {
        found.extend(skew(
            Area::Broker,
            &format!("the NATS node on {place}"),
            now,
            began,
        ));
    }
    found
}

/// Whether `theirs`, asked for at `began` and answered by now, can be the same clock as ours.
pub fn skew(
    area: Area,
    whose: &str,
    theirs: OffsetDateTime,
    (began, ours): (Instant, OffsetDateTime),
) -> Option<Finding> {
    let may_differ = CLOCKS_MAY_DIFFER + began.elapsed();
    let differs = (theirs - ours).unsigned_abs();
    (differs > may_differ).then(|| {
        Finding::wrong(
            area,
            format!(
                "the clock of {whose} and the one here differ by {} s",
                differs.as_secs()
            ),
            format!(
                "at most {} s: times of events, tokens and leases rest on it",
                CLOCKS_MAY_DIFFER.as_secs()
            ),
            "let chrony or systemd-timesyncd set the clock on both machines (`timedatectl`)",
        )
    })
}

/// Host and port: a URL may hold more than a terminal should.
pub fn shown(node: &Url) -> String {
    let port = node.port_or_known_default().unwrap_or(4222);
    format!("{}:{port}", node.host_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_when_it_cannot_be_explained_by_the_wait() {
        let (began, ours) = (Instant::now(), clock::now());
        let says = |seconds| {
            let theirs = ours + time::Duration::seconds(seconds);
            skew(Area::Broker, "x", theirs, (began, ours)).map(|finding| finding.what)
        };
        assert_eq!(says(1), None);
        assert_eq!(says(-1), None);
        let behind = says(-100).expect("it differs by more than two seconds");
        assert!(behind.contains("differ by 100 s"), "{behind}");
    }
}
