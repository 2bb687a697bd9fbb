//! The role by itself, with a broker that is away: reads go on, and readiness says what does not.

use std::time::Duration;

use chat4all_cli::embedded::{Postgres, PostgresOptions, temp_dir};
use chat4all_cli::roles::{self, Role};
use chat4all_postgres::{Schema, migrate};
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::config::Sources;
use chat4all_service::{Config, Shutdown, clock};
use serde_json::{Value, json};

use super::super::parked::park_item;
use crate::bridges::stage::until;
use crate::support::log::one_node;

#[tokio::test(flavor = "multi_thread")]
async fn the_role_starts_and_reads_without_a_broker_and_says_what_is_missing() {
    let dir = temp_dir().unwrap();
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(dir.path())
    };
    let postgres = Postgres::start(options).await.unwrap();
    let database =
        chat4all_postgres::Config::new(&postgres.url(), Schema::default(), "migrate").unwrap();
    migrate::migrate(&database).await.unwrap();
    let mut node = one_node().await;
    park_item(&node.log, "whatsapp-main").await;
    node.nats.kill().await;

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let sources = Sources::new()
        .with_variable("CHAT4ALL_AUTH__HS256_SECRET", "0123456789abcdef".repeat(2))
        .with_variable("CHAT4ALL_IDS__SECRET", "07".repeat(32))
        .with_variable("CHAT4ALL_NATS__URL", node.nats.url())
        .with_variable("CHAT4ALL_POSTGRES__URL", postgres.url())
        .with_variable("CHAT4ALL_HTTP__LISTEN", address.to_string());
    let config = Config::load(&sources).unwrap().config;
    let scopes = &[Scope::ConversationsRead, Scope::DeadLettersRead];
    let grant = Grant {
        sub: "op",
        scopes,
        ttl: Duration::from_secs(600),
    };
    let (auth, now) = (&config.auth, clock::now());
    let token = mint(
        &auth.hs256_secret,
        &auth.issuer,
        auth.audience.as_deref(),
        &grant,
        now,
    );
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let readyz = async || {
        let answer = client.get(format!("http://{address}/readyz")).send().await;
        let Ok(answer) = answer else {
            return (0, Value::Null);
        };
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let ask = async |query: &str| {
        let request = client.post(format!("http://{address}/graphql"));
        let request = request.bearer_auth(&token).json(&json!({ "query": query }));
        let answer = request.send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let shutdown = Shutdown::new();
    let role = roles::run(Role::QueryApi, config, shutdown.clone());
    let tour = async {
        let (status, seen) = until(readyz, |(status, _)| *status != 0).await;
        assert_eq!(
            (status, &seen["status"]),
            (200, &json!("ready")),
            "{seen:#}"
        );
        assert_eq!(seen["checks"]["postgres"]["status"], "green");
        assert_eq!(seen["checks"]["parked_inbound"]["status"], "amber");
        let reason = seen["checks"]["parked_inbound"]["reason"].as_str().unwrap();
        assert!(reason.contains("PARKED_INBOUND are left out"), "{reason}");
        let (status, answer) = ask("{ conversations { nodes { id } } }").await;
        assert_eq!((status, answer.get("errors")), (200, None), "{answer:#}");
        let letters = "{ deadLetters { nodes { kind } } }";
        let (status, answer) = ask(letters).await;
        assert_eq!(status, 200, "{answer:#}");
        assert_eq!(
            answer["errors"][0]["extensions"]["left_out"],
            "PARKED_INBOUND"
        );

        node.nats.restart().await.unwrap();
        let green =
            |(_, seen): &(u16, Value)| seen["checks"]["parked_inbound"]["status"] == "green";
        until(readyz, green).await;
        let (_, answer) = ask(letters).await;
        let expected = json!({ "deadLetters": { "nodes": [{ "kind": "PARKED_INBOUND" }] } });
        assert_eq!((&answer["data"], answer.get("errors")), (&expected, None));
        shutdown.stop();
    };
    let (ended, ()) = tokio::join!(role, tour);
    ended.unwrap();
    shutdown.tasks_ended().await;
    assert_eq!(shutdown.deaths(), 0);
}
