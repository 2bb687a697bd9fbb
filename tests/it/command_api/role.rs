//! The role as `chat4all command-api` runs it: from a configuration, until it is told to stop.

use std::time::{Duration, Instant};

use chat4all_cli::roles::Role;
use chat4all_service::{Config, Shutdown};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::stack::{Broker, http_client, sources, token};
use chat4all_service::auth::Scope;

#[tokio::test(flavor = "multi_thread")]
async fn the_role_serves_from_its_configuration_and_stops_cleanly() {
    let broker = Broker::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let sources = sources()
        .with_variable("CHAT4ALL_NATS__URL", broker.nats.url())
        .with_variable("CHAT4ALL_NATS__MONITOR_URL", broker.nats.monitor_url())
        .with_variable(
            "CHAT4ALL_LOG__PARTITIONS",
            broker.layout.partitions.get().to_string(),
        )
        .with_variable(
            "CHAT4ALL_NATS__MAX_BYTES",
            broker.layout.max_bytes.to_string(),
        )
        .with_variable("CHAT4ALL_HTTP__LISTEN", format!("127.0.0.1:{port}"));
    let config = Config::load(&sources).unwrap().config;
    let shutdown = Shutdown::new();
    let (role, client) = (
        chat4all_cli::roles::run(Role::CommandApi, config, shutdown.clone()),
        http_client(),
    );
    let base = format!("http://127.0.0.1:{port}");
    let tour = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match client.get(format!("{base}/readyz")).send().await {
                Ok(ready) if ready.status() == StatusCode::OK => break,
                seen => assert!(Instant::now() < deadline, "not ready: {seen:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let document = client
            .get(format!("{base}/v1/openapi.json"))
            .send()
            .await
            .unwrap();
        let document: Value = document.json().await.unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let nowhere = client.get(format!("{base}/v1/nowhere")).send();
        let nowhere: Value = nowhere.await.unwrap().json().await.unwrap();
        let detail = nowhere["detail"].as_str().unwrap();
        assert!(detail.contains("`/v1/openapi.json`"), "{detail}");
        let body = json!({"kind": "direct", "participants": [{"user_id": super::user("ben")}]});
        let start = client.post(format!("{base}/v1/conversations")).json(&body);
        let start = start
            .bearer_auth(token("ana", Scope::ALL))
            .send()
            .await
            .unwrap();
        assert_eq!(start.status(), StatusCode::CREATED);
        shutdown.stop();
    };
    let (ended, ()) = tokio::join!(role, tour);
    ended.unwrap();
    shutdown.tasks_ended().await;
    assert_eq!(shutdown.deaths(), 0);
    assert!(
        client.get(format!("{base}/livez")).send().await.is_err(),
        "it still answers"
    );
}
