//! A Postgres with our tables, the query API in front of it, and clients with tokens.

use std::net::SocketAddr;
use std::time::Duration;

use chat4all_cli::embedded::{Postgres, PostgresOptions, temp_dir};
use chat4all_domain::UserId;
use chat4all_nats::connect;
use chat4all_nats::parked::Parked;
use chat4all_postgres::read::Reads;
use chat4all_postgres::{Config, Projected, Schema, migrate};
use chat4all_query_api::{Limits, Live, Models, QueryApi};
use chat4all_service::auth::{Grant, Scope, Verifier, mint};
use chat4all_service::clock;
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wire::Wire;

const ISSUER: &str = "test";
pub const ACQUIRE: Duration = Duration::from_secs(2);
pub const STATEMENT: Duration = Duration::from_secs(2);
pub const OWN: &[Scope] = &[Scope::ConversationsRead];
/// An operator's, who may not read conversations.
pub const DEAD: &[Scope] = &[Scope::DeadLettersRead];
pub const ALL: &[Scope] = &[Scope::ConversationsRead, Scope::ConversationsReadAll];

pub struct World {
    pub postgres: Postgres,
    pub wire: Wire,
    /// Writes rows, past the wire.
    pub writer: PgConnection,
    /// What the API reads through.
    pub pool: PgPool,
    client: Client,
    api: SocketAddr,
    _server: JoinSet<()>,
    _dir: TempDir,
}

impl World {
    /// Without a broker: nothing in most reads rests on it.
    pub async fn new() -> Self {
        let nobody = connect::Config::new("nats://127.0.0.1:1", "query-api");
        Self::beside(connect::connect_later(&nobody).await.unwrap()).await
    }

    /// With the broker that `client` reaches, or not.
    pub async fn beside(client: chat4all_nats::Client) -> Self {
        let dir = temp_dir().unwrap();
        let postgres = Postgres::start(PostgresOptions {
            fsync: false,
            ..PostgresOptions::in_dir(dir.path())
        });
        let postgres = postgres.await.unwrap();
        let direct = Config::new(&postgres.url(), Schema::default(), "writer").unwrap();
        migrate::migrate(&direct).await.unwrap();
        let wire = Wire::to(postgres.port()).await;
        let url = format!("postgres://chat4all@127.0.0.1:{}/chat4all", wire.port);
        let counted = Config::new(&url, Schema::default(), "query-api").unwrap();
        let pool = counted.pool_to_read(8, ACQUIRE, STATEMENT);
        let models = Models {
            reads: Reads::new(pool.clone(), STATEMENT + Duration::from_millis(500)),
            projected: Projected::new(pool.clone()),
            parked: Parked::new(client),
        };
        let verifier = Verifier::new(&secret(), ISSUER, None);
        let limits = Limits {
            connections: 10,
            per_caller: 10,
            strangers: 10,
        };
        let live = Live::new(limits, CancellationToken::new());
        let (routes, _) = QueryApi::new(models, verifier, live);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            writer: direct.connect().await.unwrap(),
            postgres,
            wire,
            pool,
            client: Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            api,
            _server: server,
            _dir: dir,
        }
    }

    pub fn get(&self, who: &str, scopes: &[Scope], path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.api);
        self.client.get(url).bearer_auth(token(who, scopes))
    }

    /// REST, as JSON.
    pub async fn rest(&self, who: &str, scopes: &[Scope], path: &str) -> (StatusCode, Value) {
        let answer = self.get(who, scopes, path).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// GraphQL, whatever the answer.
    pub async fn ask(
        &self,
        who: &str,
        scopes: &[Scope],
        query: &str,
        variables: Value,
    ) -> (StatusCode, Value) {
        let answer = self
            .client
            .post(format!("http://{}/graphql", self.api))
            .bearer_auth(token(who, scopes))
            .json(&json!({ "query": query, "variables": variables }))
            .send()
            .await
            .unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// GraphQL that must go well: its data.
    #[track_caller]
    pub fn data(
        &self,
        who: &str,
        scopes: &[Scope],
        query: &str,
        variables: Value,
    ) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let (status, mut answer) = self.ask(who, scopes, query, variables).await;
            assert!(
                status == StatusCode::OK && answer.get("errors").is_none(),
                "{caller}: {status} {answer:#}"
            );
            answer["data"].take()
        }
    }

    /// Without a token.
    pub async fn stranger(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.api);
        self.client.get(url).send().await.unwrap()
    }
}

fn secret() -> SecretString {
    SecretString::from("0123456789abcdef0123456789abcdef")
}

fn token(sub: &str, scopes: &[Scope]) -> String {
    let grant = Grant {
        sub,
        scopes,
        ttl: Duration::from_secs(600),
    };
    mint(&secret(), ISSUER, None, &grant, clock::now())
}

/// The id of a user of these tests.
pub fn user(name: &str) -> UserId {
    UserId::derive(ISSUER, name)
}
