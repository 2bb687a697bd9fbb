//! A simulator with a receiver for its webhooks, and how to wait for what happens.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use chat4all_simulator::{AccountConfig, Config, Millis, Running, Settings, Simulator};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_util::task::TaskTracker;

pub const PHONE: &str = "106540352242922";
pub const OTHER_PHONE: &str = "106540352242933";
pub const CUSTOMER: &str = "4915112345678";

/// One status or message, with the time it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub phone_number_id: String,
    /// `statuses` or `messages`.
    pub list: &'static str,
    pub item: Value,
}

#[derive(Default)]
struct Inbox {
    received: Mutex<Vec<Received>>,
    bodies: Mutex<Vec<Value>>,
    refuse_next: AtomicU64,
    refused: AtomicU64,
    bad_signatures: AtomicU64,
    wrong_challenge: AtomicU64,
    hung: AtomicU64,
}

/// A receiver of webhooks on a port of its own.
#[derive(Clone)]
pub struct Receiver {
    inbox: Arc<Inbox>,
    pub url: String,
    tasks: TaskTracker,
}

impl Receiver {
    pub async fn start() -> Self {
        let inbox = Arc::new(Inbox::default());
        let app = Router::new()
            .route("/hook", get(verify).post(receive))
            .with_state(inbox.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let tasks = TaskTracker::new();
        tasks.spawn(async { axum::serve(listener, app).await });
        Self { inbox, url, tasks }
    }
    /// Answers the next `calls` with 500.
    pub fn refuse_next(&self, calls: u64) {
        self.inbox.refuse_next.store(calls, Ordering::SeqCst);
    }
    pub fn refused(&self) -> u64 {
        self.inbox.refused.load(Ordering::SeqCst)
    }
    /// Takes calls and never answers.
    pub fn hang(&self) {
        self.inbox.hung.store(1, Ordering::SeqCst);
    }
    /// Answers handshakes with something else than the challenge.
    pub fn break_handshake(&self) {
        self.inbox.wrong_challenge.store(1, Ordering::SeqCst);
    }
    pub fn all(&self) -> Vec<Received> {
        assert_eq!(
            self.inbox.bad_signatures.load(Ordering::SeqCst),
            0,
            "signatures"
        );
        self.inbox.received.lock().unwrap().clone()
    }
    pub fn bodies(&self) -> Vec<Value> {
        self.inbox.bodies.lock().unwrap().clone()
    }
    /// The statuses reported for a message, in the order they came.
    pub fn steps(&self, wamid: &str) -> Vec<String> {
        let text = |item: &Value| item["status"].as_str().unwrap().to_owned();
        self.all()
            .iter()
            .filter(|received| received.list == "statuses" && received.item["id"] == wamid)
            .map(|received| text(&received.item))
            .collect()
    }
}

async fn verify(
    State(inbox): State<Arc<Inbox>>,
    Query(query): Query<std::collections::HashMap<String, String>>,
) -> (StatusCode, String) {
    let get = |key: &str| query.get(key).cloned().unwrap_or_default();
    if get("hub.mode") != "subscribe" || !get("hub.verify_token").starts_with("verify-") {
        return (StatusCode::FORBIDDEN, String::new());
    }
    match inbox.wrong_challenge.load(Ordering::SeqCst) {
        0 => (StatusCode::OK, get("hub.challenge")),
        _ => (StatusCode::OK, "something else".to_owned()),
    }
}

async fn receive(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, raw: Bytes) -> StatusCode {
    if inbox.hung.load(Ordering::SeqCst) > 0 {
        std::future::pending::<()>().await;
    }
    let refuse = |left: u64| left.checked_sub(1);
    if inbox
        .refuse_next
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse)
        .is_ok()
    {
        inbox.refused.fetch_add(1, Ordering::SeqCst);
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let body: Value = serde_json::from_slice(&raw).unwrap();
    for change in body["entry"][0]["changes"].as_array().unwrap() {
        let value = &change["value"];
        let phone_number_id = value["metadata"]["phone_number_id"].as_str().unwrap();
        if !signed(&headers, &raw, &format!("secret-{phone_number_id}")) {
            inbox.bad_signatures.fetch_add(1, Ordering::SeqCst);
        }
        for list in ["statuses", "messages"] {
            for item in value[list].as_array().unwrap_or(&Vec::new()) {
                inbox.received.lock().unwrap().push(Received {
                    phone_number_id: phone_number_id.to_owned(),
                    list,
                    item: item.clone(),
                });
            }
        }
    }
    inbox.bodies.lock().unwrap().push(body);
    StatusCode::OK
}

fn signed(headers: &HeaderMap, raw: &[u8], secret: &str) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(raw);
    let expected: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    headers
        .get("x-hub-signature-256")
        .is_some_and(|value| value == &format!("sha256={expected}"))
}

pub fn account(id: &str, webhook_url: Option<&str>) -> AccountConfig {
    AccountConfig {
        phone_number_id: id.to_owned(),
        display_phone_number: format!("+49 30 {}", &id[9..]),
        waba_id: "102290129340398".to_owned(),
        token: format!("token-{id}"),
        app_secret: format!("secret-{id}"),
        verify_token: format!("verify-{id}"),
        webhook_url: webhook_url.map(|url| url.parse().unwrap()),
        auto_subscribe: true,
    }
}

/// A simulator that reports quickly, with two business numbers and their receiver.
pub struct Stage {
    pub sim: Running,
    pub receiver: Receiver,
    pub http: Client,
}

impl Stage {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let receiver = Receiver::start().await;
        let mut config = Config {
            seed: Some(7),
            accounts: vec![
                account(PHONE, Some(&receiver.url)),
                account(OTHER_PHONE, Some(&receiver.url)),
            ],
            settings: Settings {
                sent_ms: Millis::between(1, 2),
                delivered_ms: Millis::between(1, 2),
                read_ms: Millis::between(1, 2),
                time_scale: 0.01,
                ..Settings::default()
            },
            ..Config::default()
        };
        change(&mut config);
        let sim = Simulator::start(config).await.unwrap();
        let http = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self {
            sim,
            receiver,
            http,
        }
    }

    /// The simulator and the receiver, orderly stopped.
    pub async fn stop(self) {
        self.sim.stop().await.unwrap();
        self.receiver.tasks.close();
    }

    pub async fn post(&self, phone: &str, token: &str, body: &Value) -> reqwest::Result<Response> {
        self.http
            .post(format!("{}/v25.0/{phone}/messages", self.sim.url()))
            .bearer_auth(token)
            .json(body)
            .send()
            .await
    }
    /// Sends a text; the answer as it came.
    pub async fn try_send(&self, to: &str, text: &str) -> reqwest::Result<Response> {
        self.post(PHONE, &format!("token-{PHONE}"), &text_body(to, text))
            .await
    }
    /// Sends a text that is accepted; its id.
    pub async fn send(&self, to: &str, text: &str) -> String {
        let answer = self.try_send(to, text).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        body["messages"][0]["id"].as_str().unwrap().to_owned()
    }
    /// A call of the control API, which has to succeed.
    pub async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.try_control(method, path, body).await;
        assert!((200..300).contains(&status), "{status} {body}");
        body
    }
    pub async fn try_control(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request = self
            .http
            .request(method, format!("{}/_sim/{path}", self.sim.url()));
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null),
        )
    }
    pub async fn get(&self, path: &str) -> Value {
        self.control("GET", path, Value::Null).await
    }
    pub async fn fault(&self, rule: Value) -> Value {
        self.control("POST", "faults", rule).await
    }
    /// Waits until the business has been told these steps of a message, in this order.
    pub async fn told(&self, wamid: &str, steps: &[&str]) {
        until(
            || async { self.receiver.steps(wamid) },
            |told| told == steps,
        )
        .await;
    }
    /// Waits until nothing is on its way any more.
    pub async fn quiet(&self) -> Value {
        until(
            || self.get("stats"),
            |stats| stats["webhooks"]["pending"] == 0,
        )
        .await
    }
}

pub fn text_body(to: &str, text: &str) -> Value {
    json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        "type": "text",
        "text": {"body": text, "preview_url": false},
    })
}

/// Waits until `reached` holds for what `look` sees; gives up after 20 seconds and says what was seen last.
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
            start.elapsed() < Duration::from_secs(20),
            "not reached; last seen: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
