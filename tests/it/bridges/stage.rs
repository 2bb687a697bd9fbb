//! One broker, one provider, and bridges between them.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chat4all_channel_bridges::config::{Account, Pace, Unsure};
use chat4all_channel_bridges::{Breaker, Bridges, Config, RunError, whatsapp};
use chat4all_domain::delivery::{self, Entry, Operation, Status};
use chat4all_domain::message::{Accept, Content, Origin, Recipient, Standing};
use chat4all_domain::{
    AccountId, Address, ChannelKind, ConversationId, Delivery, IdSecret, Message, MessageId,
    ParticipantId, Revision, Text, Timestamp, UserId, delivery::Event, message,
};
use chat4all_nats::resolved::{self, Found};
use chat4all_nats::{Change, Log, Store};
use chat4all_service::metrics::Metrics;
use chat4all_simulator::{
    AccountConfig, Config as SimulatorConfig, Millis, Running, Settings, Simulator,
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::log::{OneNode, client, context, layout, one_node};

pub const ACCOUNT: &str = "whatsapp-main";
pub const PHONE: &str = "106540352242922";
pub const SECRET: &str = "app-secret";
pub const TOKEN: &str = "token";
pub const KIND: ChannelKind = ChannelKind::WhatsApp;
/// Long enough for a slow machine; what is waited for usually takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker, a provider, and no bridge yet.
pub struct Stage {
    pub node: OneNode,
    pub sim: Running,
    pub http: reqwest::Client,
    pub messages: Store<Message>,
    pub deliveries: Store<Delivery>,
    pub config: Config,
    pub listen: SocketAddr,
    pub metrics: Metrics,
}

/// A bridge process: a runtime of its own, so that killing it leaves nothing of it running.
pub struct Worker {
    /// `None` once it has ended.
    runtime: Option<Runtime>,
    work: JoinHandle<Result<(), RunError>>,
    stop: CancellationToken,
    log: Log,
}

impl Worker {
    /// How many of its appends were refused because somebody else's was there.
    pub fn refused_appends(&self) -> u64 {
        let answers = resolved::Answer::ALL.into_iter();
        let counts = answers.map(|answer| self.log.resolved().count(answer, Found::Another));
        counts.sum()
    }
    /// As a signal would: finishes what is under way.
    pub async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.work).await.unwrap().unwrap();
    }
    /// As `kill -9` would: whatever is under way is never finished, no command, no call, no lease. Returns when nothing of
    /// it runs any more.
    pub async fn kill(mut self) {
        assert!(!self.work.is_finished(), "it had ended by itself");
        let runtime = self.runtime.take().expect("killed once");
        let dead = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(PATIENCE));
        dead.await.unwrap();
        assert!(self.work.is_finished(), "something of it still runs");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn pace() -> Pace {
    Pace {
        provider_timeout: Duration::from_secs(10),
        unsure_wait: Duration::from_millis(1_500),
        transient: [100, 300, 1_000].map(Duration::from_millis).to_vec(),
        probe_every: Duration::from_millis(1_500),
        breaker: Breaker {
            calls: 20,
            failing_percent: 50,
            within: Duration::from_secs(30),
            open_for: Duration::from_secs(3),
        },
        valid_for: Duration::from_secs(3_600),
    }
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut SimulatorConfig, &mut Config)) -> Self {
        let node = one_node().await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = port.local_addr().unwrap();
        drop(port);
        let mut simulated = SimulatorConfig {
            seed: Some(7),
            accounts: vec![AccountConfig {
                phone_number_id: PHONE.to_owned(),
                display_phone_number: "+49 30 242922".to_owned(),
                waba_id: "102290129340398".to_owned(),
                token: TOKEN.to_owned(),
                app_secret: SECRET.to_owned(),
                verify_token: "verify".to_owned(),
                webhook_url: format!("http://{listen}/webhooks/whatsapp/{ACCOUNT}")
                    .parse()
                    .ok(),
                auto_subscribe: true,
            }],
            settings: Settings {
                sent_ms: Millis::between(1, 5),
                delivered_ms: Millis::between(1, 5),
                read_ms: Millis::between(1, 5),
                time_scale: 0.1,
                ..Settings::default()
            },
            ..SimulatorConfig::default()
        };
        let account = whatsapp::Account {
            phone_number_id: PHONE.to_owned(),
            token: TOKEN.into(),
            app_secret: SECRET.into(),
            verify_token: "verify".into(),
            api_base: "http://127.0.0.1:1/v25.0".parse().unwrap(),
            concurrency: 64,
            rate_per_s: 1_000,
            unsure: Unsure::Resend,
            echoes: true,
        };
        let mut config = Config {
            worker: "bridges-1".to_owned(),
            ids: IdSecret::new([7; 32]),
            accounts: [(account_id(), Account::WhatsApp(account))].into(),
            pace: pace(),
            webhook_body_limit_bytes: 4 * 1024 * 1024,
        };
        change(&mut simulated, &mut config);
        let sim = Simulator::start(simulated).await.unwrap();
        for Account::WhatsApp(account) in config.accounts.values_mut() {
            account.api_base = format!("{}/v25.0", sim.url()).parse().unwrap();
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let tasks = TaskTracker::new();
        Self {
            messages: Store::new(node.log.clone(), tasks.clone()),
            deliveries: Store::new(node.log.clone(), tasks),
            node,
            sim,
            http,
            config,
            listen,
            metrics: Metrics::new(),
        }
    }

    /// The bridges, with webhooks on the port that the provider knows.
    pub async fn bridges(&self) -> Worker {
        let worker = self.worker("bridges-1", &self.metrics, true).await;
        self.subscribed().await;
        worker
    }

    /// Another process of the same role.
    pub async fn worker(&self, name: &str, metrics: &Metrics, listens: bool) -> Worker {
        let url = self.node.nats.url();
        self.worker_at(&url, name, metrics, listens).await
    }

    /// The same, with another way to the broker.
    pub async fn worker_at(
        &self,
        url: &str,
        name: &str,
        metrics: &Metrics,
        listens: bool,
    ) -> Worker {
        let config = Config {
            worker: name.to_owned(),
            ..self.config.clone()
        };
        let (url, name, metrics) = (url.to_owned(), name.to_owned(), metrics.clone());
        let (listen, stop) = (listens.then_some(self.listen), CancellationToken::new());
        let (until, listening) = (stop.clone(), stop.clone());
        let (ready, is_ready) = oneshot::channel();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let work = runtime.spawn(async move {
            let log = Log::open(client(&url, &name).await, &layout(1)).await;
            let log = log.unwrap();
            let bridges = Bridges::new(&log, &config, &metrics).unwrap();
            let routes = bridges.routes();
            let listener = match listen {
                Some(listen) => Some(tokio::net::TcpListener::bind(listen).await.unwrap()),
                None => None,
            };
            // Who waits for it holds the other end.
            assert!(ready.send(log).is_ok(), "nobody waits for the bridges");
            let served = async {
                if let Some(listener) = listener {
                    axum::serve(listener, routes)
                        .with_graceful_shutdown(listening.cancelled_owned())
                        .await
                        .unwrap();
                }
            };
            let ((), ended) = tokio::join!(served, bridges.run(until));
            ended
        });
        let log = is_ready.await.expect("the bridges start");
        Worker {
            runtime: Some(runtime),
            work,
            stop,
            log,
        }
    }

    /// What a dead worker held is free at once, not only when it ages out.
    pub async fn forget_leases(&self) {
        let js = self.node.log.jetstream();
        let leases = js.get_stream_no_info("KV_LEASES").await.unwrap();
        leases.purge().await.unwrap();
    }

    /// A connection of its own, as a process has one.
    pub async fn log(&self, name: &str) -> Log {
        let client = client(&self.node.nats.url(), name).await;
        Log::open(client, &layout(1)).await.unwrap()
    }

    /// The provider has done the handshake with our webhook.
    async fn subscribed(&self) {
        until(
            || self.control("GET", "accounts", Value::Null),
            |accounts| accounts.to_string().contains("\"subscription\":\"active\""),
        )
        .await;
    }

    /// A call of the simulator's control API, which has to succeed.
    pub async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.sim.url());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {bytes:?}");
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }
    pub async fn fault(&self, rule: Value) {
        self.control("POST", "faults", rule).await;
    }
    pub async fn no_faults(&self) {
        self.control("DELETE", "faults", Value::Null).await;
    }
    /// How many messages the provider has accepted.
    pub async fn accepted_count(&self) -> u64 {
        let stats = self.control("GET", "stats", Value::Null).await;
        stats["calls"]["accepted"].as_u64().unwrap()
    }
    /// The texts that the provider accepted for a number, in order of arrival; all numbers without one.
    pub async fn accepted(&self, to: Option<&str>) -> Vec<String> {
        let calls = self.calls().await;
        let of = |call: &&Value| {
            !call["message_id"].is_null() && to.is_none_or(|number| call["to"] == number)
        };
        let text = |call: &Value| call["body"]["text"]["body"].as_str().unwrap().to_owned();
        calls.iter().filter(of).map(text).collect()
    }
    /// The attempts that the provider accepted, in order of arrival: message, number of the delivery, number of the attempt.
    pub async fn accepted_attempts(&self) -> Vec<(MessageId, u16, u32)> {
        let calls = self.calls().await;
        let accepted = calls.iter().filter(|call| !call["message_id"].is_null());
        let attempt = |call: &Value| {
            let data = call["body"]["biz_opaque_callback_data"].as_str().unwrap();
            let words: Vec<_> = data.split('.').collect();
            let number = |at: usize| words[at].parse::<u32>().unwrap();
            let message = words[1].parse().unwrap();
            (message, u16::try_from(number(2)).unwrap(), number(3))
        };
        accepted.map(attempt).collect()
    }
    /// Every call the provider got, oldest first.
    pub async fn calls(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut since = 0;
        loop {
            let path = format!("calls?since={since}&limit=1000");
            let page = self.control("GET", &path, Value::Null).await;
            let items = page["items"].as_array().unwrap();
            let Some(last) = items.last() else {
                return all;
            };
            since = last["seq"].as_u64().unwrap();
            all.extend(items.iter().cloned());
        }
    }

    /// A client posts a text to these numbers.
    pub async fn post(
        &self,
        conversation: ConversationId,
        numbers: &[String],
        text: &str,
    ) -> Posted {
        self.post_for(conversation, numbers, text, Duration::from_secs(3_600))
            .await
    }

    pub async fn post_for(
        &self,
        conversation: ConversationId,
        numbers: &[String],
        text: &str,
        valid_for: Duration,
    ) -> Posted {
        let id = message::Id {
            conversation,
            message: MessageId::new(Uuid::now_v7()),
        };
        let user = UserId::derive("test", "anna");
        let recipients = numbers
            .iter()
            .map(|number| self.recipient(conversation, number));
        let accept = Accept {
            origin: Origin::Api,
            author: ParticipantId::of_user(conversation, user),
            standing: Standing::Participant,
            content: Content::Text {
                text: Text::parse(text.to_owned(), 4_096).unwrap(),
            },
            provider_id: None,
            fingerprint: self.config.ids.fingerprint(user, text),
            recipients: recipients.collect(),
            at: now(),
            valid_for,
        };
        let mut context = context(20);
        context.traceparent = Some(format!(
            "00-{:032x}-00f067aa0ba902b7-01",
            id.message.uuid().as_u128()
        ));
        let command = message::Command::Accept(accept);
        let accepted = self.messages.execute(&id, command, context).await.unwrap();
        Posted {
            id: delivery::Id {
                kind: KIND,
                conversation,
                message: id.message,
            },
            revision: accepted.revision,
        }
    }

    fn recipient(&self, conversation: ConversationId, number: &str) -> Recipient {
        let address = Address::parse(KIND, number).unwrap();
        let identity = self.config.ids.identity(KIND, &address);
        Recipient {
            participant: ParticipantId::of_contact(conversation, ACCOUNT, identity),
            kind: KIND,
            account: account_id(),
            address,
        }
    }

    /// What the log says about delivery `n`.
    pub async fn entry(&self, posted: &Posted, n: u16) -> Entry {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let loaded = self
            .deliveries
            .from_leader(&posted.id, deadline)
            .await
            .unwrap();
        loaded.state.entry(n, Operation::Send)
    }

    /// Waits until delivery `n` is at least there.
    pub async fn reaches(&self, posted: &Posted, n: u16, status: Status) -> Entry {
        until(|| self.entry(posted, n), |entry| entry.status() >= status).await
    }
    /// Waits until delivery `n` is exactly there.
    pub async fn is(&self, posted: &Posted, n: u16, status: Status) -> Entry {
        until(|| self.entry(posted, n), |entry| entry.status() == status).await
    }

    /// Every event of a message's deliveries, in order.
    pub async fn history(&self, posted: &Posted) -> Vec<Event> {
        let log = &self.node.log;
        let partition = log.partition_of(&posted.id);
        let (mut events, mut from) = (vec![], 1);
        loop {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            let batch = log.read(partition, from, deadline).await.unwrap();
            let Some(last) = batch.last() else {
                return events;
            };
            from = last.sequence + 1;
            for stored in batch {
                let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
                if let Ok(Change::Delivery(id, recorded)) = change
                    && id == posted.id
                {
                    events.extend(recorded.into_iter().map(|one| one.event));
                }
            }
        }
    }

    /// What is parked: subject and payload.
    pub async fn parked(&self) -> Vec<(String, String)> {
        let js = self.node.log.jetstream();
        let stream = js.get_stream_no_info("PARKED").await.unwrap();
        let (mut found, mut from) = (vec![], 1);
        let next = |from| {
            stream
                .raw_message_builder()
                .sequence(from)
                .next_by_subject("chat.parked.>")
        };
        while let Ok(message) = next(from).send().await {
            from = message.sequence + 1;
            let payload = String::from_utf8_lossy(&message.payload).into_owned();
            found.push((message.subject.to_string(), payload));
        }
        found
    }

    /// Calls our webhook as the provider does.
    pub async fn webhook(&self, body: &str, signature: Option<&str>) -> reqwest::StatusCode {
        let url = format!("http://{}/webhooks/whatsapp/{ACCOUNT}", self.listen);
        let mut request = self.http.post(url).body(body.to_owned());
        if let Some(signature) = signature {
            request = request.header("X-Hub-Signature-256", signature);
        }
        request.send().await.unwrap().status()
    }
    pub async fn signed_webhook(&self, body: &str) -> reqwest::StatusCode {
        self.webhook(body, Some(&sign(body))).await
    }
}

/// What a client knows after a 202.
#[derive(Clone, Copy, Debug)]
pub struct Posted {
    pub id: delivery::Id,
    pub revision: Revision,
}

pub fn account_id() -> AccountId {
    ACCOUNT.parse().unwrap()
}

/// A customer's number.
pub fn number(i: usize) -> String {
    format!("49151{:08}", 10_000_000 + i)
}

pub fn conversation() -> ConversationId {
    ConversationId::new(Uuid::now_v7())
}

pub fn now() -> Timestamp {
    chat4all_service::clock::now().into()
}

pub fn sign(body: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex = mac.finalize().into_bytes();
    let hex: String = hex.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A webhook body with these items.
pub fn body(list: &str, items: &Value) -> String {
    json!({"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [{
    "field": "messages", "value": {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "4930242922", "phone_number_id": PHONE},
        "contacts": [{"profile": {"name": "Anna"}, "wa_id": number(1)}],
        list: items,
    }}]}]})
    .to_string()
}

/// Waits until `reached` holds for what `look` sees; gives up after a minute and says what was seen last.
pub async fn until<T: Debug, F: Future<Output = T>>(
    look: impl Fn() -> F,
    reached: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let seen = look().await;
        if reached(&seen) {
            return seen;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "not reached; last seen: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
