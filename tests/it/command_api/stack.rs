//! A broker of one's own, any number of instances of the API, and a look at what is on the log.

use std::time::Duration;

use chat4all_cli::embedded::{Nats, NatsOptions, temp_dir};
use chat4all_command_api::{Accounts, CommandApi, CommandMetrics, Deps, Settings, Stores};
use chat4all_domain::{ChannelKind, Conversation, IdSecret, PartitionCount, Position};
use chat4all_nats::follower::Follower;
use chat4all_nats::streams::Layout;
use chat4all_nats::{Client, Log, connect};
use chat4all_service::auth::{Grant, Scope, Verifier, mint};
use chat4all_service::config::{Config, Sources};
use chat4all_service::health::Checks;
use chat4all_service::http::{Shell, serve};
use chat4all_service::metrics::Metrics;
use chat4all_service::{Shutdown, clock};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub const ID_SECRET: IdSecret = IdSecret::new([7; 32]);
const TOKEN_SECRET: &str = "a secret of at least 32 characters";
/// How long anything may take that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker in a directory of its own.
pub struct Broker {
    pub nats: Nats,
    pub layout: Layout,
    _dir: tempfile::TempDir,
}

impl Broker {
    pub async fn start() -> Self {
        Self::with(3, 1 << 30).await
    }

    /// With this many partitions, which hold `max_bytes` together.
    pub async fn with(partitions: u8, max_bytes: u64) -> Self {
        let dir = temp_dir().unwrap();
        let nats = Nats::start(NatsOptions::in_dir(dir.path().join("nats")))
            .await
            .unwrap();
        let layout = Layout {
            partitions: PartitionCount::new(partitions).unwrap(),
            replicas: 1,
            max_bytes,
        };
        let (log, _) = Log::provision(connect_to(&nats).await, &layout)
            .await
            .unwrap();
        drop(log);
        Self {
            nats,
            layout,
            _dir: dir,
        }
    }

    /// Every envelope on the log with its subject and headers, partition by partition.
    pub async fn log(&self) -> Vec<Stored> {
        let jetstream = async_nats::jetstream::new(connect_to(&self.nats).await);
        let mut all = Vec::new();
        for partition in self.layout.partitions.all() {
            let stream = jetstream
                .get_stream(format!("EVT-{partition}"))
                .await
                .unwrap();
            for sequence in 1..=stream.cached_info().state.last_sequence {
                let message = stream.get_raw_message(sequence).await.unwrap();
                all.push(Stored {
                    subject: message.subject.to_string(),
                    position: Position::new(partition, sequence),
                    traceparent: message.headers.get("traceparent").map(ToString::to_string),
                    envelope: serde_json::from_slice(&message.payload).unwrap(),
                });
            }
        }
        all
    }

    /// Every event of this type on the log.
    pub async fn events(&self, r#type: &str) -> Vec<Value> {
        let log = self.log().await;
        let events = log
            .iter()
            .flat_map(|stored| stored.envelope["events"].as_array().unwrap());
        events
            .filter(|event| event["type"] == r#type)
            .cloned()
            .collect()
    }
}

/// One envelope on the log.
#[derive(Debug)]
pub struct Stored {
    pub subject: String,
    pub position: Position,
    pub traceparent: Option<String>,
    pub envelope: Value,
}

async fn connect_to(nats: &Nats) -> Client {
    let config = connect::Config::new(nats.url(), "test");
    connect::connect(&config).await.unwrap()
}

/// One instance of the API. Dropping it stops it.
pub struct Api {
    pub url: String,
    /// Its connection, for counting.
    pub client: Client,
    pub stores: Stores,
    pub follower: Follower<Conversation>,
    http: reqwest::Client,
    shutdown: Shutdown,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.stop();
        self.shutdown.hard().cancel();
    }
}

impl Api {
    pub async fn start(broker: &Broker) -> Self {
        Self::with_deadline(broker, Duration::from_secs(10)).await
    }

    /// With this deadline for commands.
    pub async fn with_deadline(broker: &Broker, command_deadline: Duration) -> Self {
        let client = connect_to(&broker.nats).await;
        let log = Log::open(client.clone(), &broker.layout).await.unwrap();
        let (shutdown, tasks) = (Shutdown::new(), TaskTracker::new());
        let stores = Stores::new(&log, &tasks, 10_000);
        let follower = Follower::start(stores.conversations.clone(), &tasks, shutdown.soft());
        assert!(follower.begun(Instant::now() + PATIENCE).await);
        let metrics = Metrics::new();
        let api = CommandApi::new(Deps {
            stores: stores.clone(),
            follower: follower.clone(),
            accounts: Accounts::new([("whatsapp-main".parse().unwrap(), ChannelKind::WhatsApp)]),
            verifier: Verifier::new(&secret(), "chat4all", None),
            id_secret: ID_SECRET,
            settings: Settings {
                command_deadline,
                valid_for: Duration::from_secs(86_400),
            },
            metrics: CommandMetrics::register(&metrics),
        });
        let http = config().http;
        let checks = Checks::new("command-api");
        api.register_checks(&checks);
        let routes = api.router().merge(metrics.routes()).merge(checks.routes());
        let routes = Shell::new(&http, &metrics).wrap(routes, None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = shutdown.clone();
        shutdown.spawn(
            "server",
            async move { serve(listener, routes, &serving).await },
        );
        Self {
            url,
            client,
            stores,
            follower,
            http: http_client(),
            shutdown,
        }
    }

    /// As `sub`, with every scope.
    pub fn post(&self, sub: &str, path: &str, body: &Value) -> Call {
        post(&self.http, &self.url, sub, path, body)
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        Call(self.http.request(method, format!("{}{path}", self.url)))
    }

    /// Starts a group of these users, as the first of them.
    pub async fn group(&self, subs: &[&str]) -> String {
        let others: Vec<_> = subs[1..]
            .iter()
            .map(|sub| serde_json::json!({"user_id": super::user(sub)}))
            .collect();
        let body = serde_json::json!({"kind": "group", "participants": others});
        let answer = self
            .post(subs[0], "/v1/conversations", &body)
            .expect(201)
            .await;
        super::id(&answer.body, "conversation_id")
    }

    /// Waits until what others did up to here is known to this instance.
    pub async fn reaches(&self, position: &str) {
        let position: Position = position.parse().unwrap();
        let reached = self
            .follower
            .reach(position, Instant::now() + PATIENCE)
            .await;
        assert!(
            reached,
            "as far as {} instead of {position}",
            self.follower.seen(position.partition)
        );
    }
}

/// A request to the instance at `url` as `sub`, with every scope.
pub fn post(http: &reqwest::Client, url: &str, sub: &str, path: &str, body: &Value) -> Call {
    let call = Call(http.post(format!("{url}{path}")));
    call.token(&token(sub, Scope::ALL)).json(body)
}

/// One request.
pub struct Call(reqwest::RequestBuilder);

impl Call {
    pub fn token(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }
    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }
    pub fn body(self, body: String) -> Self {
        Self(self.0.header("content-type", "application/json").body(body))
    }
    pub fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub async fn send(self) -> Answer {
        let response = self.0.send().await.unwrap();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let (replay, trace_id) = (header("idempotent-replay"), header("x-trace-id"));
        let (status, text) = (response.status(), response.text().await.unwrap());
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer {
            status,
            replay: replay.as_deref() == Some("true"),
            trace_id,
            body,
        }
    }

    /// Sends it; anything but `status` fails the test.
    pub async fn expect(self, status: u16) -> Answer {
        let answer = self.send().await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
        answer
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: StatusCode,
    pub replay: bool,
    pub trace_id: Option<String>,
    pub body: Value,
}

pub fn secret() -> SecretString {
    TOKEN_SECRET.into()
}

pub fn token(sub: &str, scopes: &[Scope]) -> String {
    let grant = Grant {
        sub,
        scopes,
        ttl: Duration::from_secs(3_600),
    };
    mint(&secret(), "chat4all", None, &grant, clock::now())
}

pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// The defaults, and what has none.
pub fn sources() -> Sources {
    Sources::new()
        .with_variable("CHAT4ALL_AUTH__HS256_SECRET", TOKEN_SECRET)
        .with_variable("CHAT4ALL_IDS__SECRET", "07".repeat(32))
}

fn config() -> Config {
    Config::load(&sources()).unwrap().config
}
