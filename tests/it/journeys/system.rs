//! A running system and everybody outside of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use chat4all_cli::embedded::{chat4all_program, temp_dir};
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::clock;
use reqwest::{Client, Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Messages, until};
use crate::support::up::{Up, send};

/// The number that `up` itself writes to when it starts.
pub const FIRST_PHONE: &str = "4915112345678";
/// Of our account at the simulated provider.
pub const PHONE_NUMBER_ID: &str = "100000000000001";
/// Longer than any answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// `chat4all up`, and what clients, customers and operators do with it.
pub struct System {
    pub up: Up,
    /// What a shell has after sourcing its `env`.
    pub env: BTreeMap<String, String>,
    http: Client,
    dir: TempDir,
}

/// What was answered, and when.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub trace_id: Option<String>,
    pub replay: bool,
    pub body: Value,
    pub began: OffsetDateTime,
    pub took: Duration,
}

/// A message of a stream, as any client reads it.
#[derive(Debug)]
pub struct Stored {
    pub subject: String,
    pub at: OffsetDateTime,
    pub traceparent: Option<String>,
    pub body: Value,
}

impl Stored {
    /// The facts and the personal part of its first event, if that is of this type.
    pub fn first(&self, r#type: &str) -> Option<(&Value, &Value)> {
        let event = &self.body["events"][0];
        (event["type"] == r#type).then_some((&event["facts"], &event["personal"]))
    }
    /// A token of its subject.
    pub fn token(&self, number: usize) -> &str {
        self.subject.split('.').nth(number).unwrap_or_default()
    }
}

impl System {
    /// In one process.
    pub fn start() -> Self {
        Self::with(|_| {})
    }
    /// Every role in a process of its own.
    pub fn split() -> Self {
        Self::with(|command| {
            command.arg("--split");
        })
    }
    pub fn with(change: impl FnOnce(&mut Command)) -> Self {
        let dir = temp_dir().unwrap();
        let mut command = Up::command(dir.path());
        change(&mut command);
        // Waits for a line of its output.
        let up = tokio::task::block_in_place(|| Up::start(dir.path(), command));
        let env = up.variables();
        let http = Client::builder()
            .no_proxy()
            .timeout(ANSWERED_WITHIN)
            .build()
            .unwrap();
        Self { up, env, http, dir }
    }

    /// Somebody's token.
    pub fn token(&self, sub: &str, scopes: &[Scope]) -> String {
        let grant = Grant {
            sub,
            scopes,
            ttl: Duration::from_secs(3_600),
        };
        let secret = self.env["CHAT4ALL_AUTH__HS256_SECRET"].clone().into();
        mint(&secret, "chat4all", None, &grant, clock::now())
    }
    /// Of somebody who may do everything.
    pub fn full(&self, sub: &str) -> String {
        self.token(sub, Scope::ALL)
    }

    /// Where `up` keeps its files.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }
    pub fn commands(&self) -> &str {
        &self.env["CHAT4ALL_URL"]
    }

    /// Posts a command, once.
    pub async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.post_to(self.commands(), token, path, body).await
    }
    /// The same, to another process of the role.
    pub async fn post_to(&self, base: &str, token: &str, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{base}{path}"));
        self.send(request.bearer_auth(token).json(body)).await
    }
    /// Posts a command, once; anything but `status` fails the test.
    pub async fn posted(&self, token: &str, path: &str, body: &Value, status: u16) -> Value {
        let answer = self.post(token, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        answer.body
    }
    pub fn request(&self, method: Method, url: String) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let (began, clock) = (clock::now(), Instant::now());
        let response = request.send().await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (trace_id, replay) = (header("x-trace-id"), header("idempotent-replay"));
        let status = response.status();
        let text = response.text().await.unwrap();
        Answer {
            status,
            trace_id,
            replay: replay.as_deref() == Some("true"),
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            began,
            took: clock.elapsed(),
        }
    }

    /// A group of this user and these phones.
    pub async fn group(&self, token: &str, phones: &[&str]) -> String {
        let phones: Vec<_> = phones.iter().map(|phone| contact(phone)).collect();
        let body = json!({"kind": "group", "participants": phones});
        let started = self.posted(token, "/v1/conversations", &body, 201).await;
        started["conversation_id"].as_str().unwrap().to_owned()
    }

    pub async fn rest(&self, token: &str, path: &str) -> Answer {
        let url = format!("{}{path}", self.env["CHAT4ALL_QUERY_URL"]);
        self.send(self.http.get(url).bearer_auth(token)).await
    }
    pub async fn graphql(&self, token: &str, query: &str, variables: Value) -> Answer {
        let url = format!("{}/graphql", self.env["CHAT4ALL_QUERY_URL"]);
        let body = json!({"query": query, "variables": variables});
        self.send(self.http.post(url).bearer_auth(token).json(&body))
            .await
    }
    /// What a query gives that has to succeed.
    pub async fn data(&self, token: &str, query: &str, variables: Value) -> Value {
        let answer = self.graphql(token, query, variables).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body["errors"].is_null(), "{}", answer.body);
        answer.body["data"].clone()
    }

    /// Every conversation that the token may see, with its participants.
    pub async fn conversations(&self, token: &str) -> Vec<Value> {
        const QUERY: &str = "query ($after: String) { conversations(first: 20, after: $after) {
            pageInfo { hasNextPage endCursor }
            nodes { conversationId kind participants { address userId } } } }";
        self.pages(token, QUERY, Value::Null, "/conversations")
            .await
    }
    /// The messages of a conversation in their order, as GraphQL shows them; none while it is not shown at all.
    pub async fn messages(&self, token: &str, conversation: &str) -> Vec<Value> {
        const QUERY: &str = "query ($id: ID!, $after: String) { conversation(id: $id) {
            messages(first: 50, after: $after) { pageInfo { hasNextPage endCursor }
            nodes { messageId origin channel status author { address userId identity { address name } }
                content { ... on TextContent { text } } } } } }";
        let id = Value::from(conversation);
        self.pages(token, QUERY, id, "/conversation/messages").await
    }
    async fn pages(&self, token: &str, query: &str, id: Value, at: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), Value::Null);
        loop {
            let variables = json!({"id": id, "after": after});
            let data = self.data(token, query, variables).await;
            // Not shown yet, or not to everybody.
            let Some(page) = data.pointer(at) else {
                return all;
            };
            all.extend(page["nodes"].as_array().unwrap().iter().cloned());
            if page["pageInfo"]["hasNextPage"] != true {
                return all;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
    }
    /// What each of these numbers has written, as it is shown to somebody who may see everything.
    pub async fn written_by(&self, token: &str, numbers: &[String]) -> Messages {
        let mut found = Messages::new();
        for conversation in self.conversations(token).await {
            let id = conversation["conversationId"].as_str().unwrap();
            for message in self.messages(token, id).await {
                let author = message["author"]["address"].as_str().map(str::to_owned);
                if let Some(author) = author.filter(|author| numbers.contains(author)) {
                    let text = message["content"]["text"].as_str().unwrap().to_owned();
                    found.entry(author).or_default().push(text);
                }
            }
        }
        found
    }

    /// The simulator's control API.
    pub async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/_sim/{path}", self.env["CHAT4ALL_SIMULATOR_URL"]);
        let mut request = self.http.request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = self.send(request).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.body);
        answer.body
    }
    /// Somebody writes on their phone; the provider's id of the message.
    pub async fn write_in(&self, number: &str, text: &str, reply_to: Option<&str>) -> String {
        let body = json!({"text": text, "reply_to": reply_to, "phone_number_id": PHONE_NUMBER_ID});
        let path = format!("phones/{number}/messages");
        let written = self.control(Method::POST, &path, body).await;
        written["id"].as_str().unwrap().to_owned()
    }
    /// Every message on a phone, oldest first.
    pub async fn phone(&self, number: &str) -> Vec<Value> {
        let path = format!("phones/{number}");
        let phone = self.control(Method::GET, &path, Value::Null).await;
        phone["messages"].as_array().unwrap().clone()
    }
    /// What the provider recorded, page by page: `calls` or `webhooks`.
    pub async fn records(&self, of: &str) -> Vec<Value> {
        let (mut since, mut all) = (0, Vec::new());
        loop {
            let path = format!("{of}?since={since}&limit=1000");
            let page = self.control(Method::GET, &path, Value::Null).await;
            assert_eq!(page["dropped"], 0, "the simulator has forgotten {of}");
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_u64() {
                Some(next) => since = next,
                None => return all,
            }
        }
    }
    /// Messages that the provider accepted, but for the one that `up` sends.
    pub async fn handed_over(&self) -> Vec<Value> {
        let mut calls = self.records("calls").await;
        calls.retain(|call| call["accepted"] == true && call["to"] != FIRST_PHONE);
        calls
    }
    /// What customers wrote and the provider has told us of, or tries to.
    pub async fn told_of(&self) -> Vec<Value> {
        let mut items = self.records("webhooks").await;
        items.retain(|item| item["kind"] == "message");
        items
    }

    /// Everything on the event streams, partition by partition.
    pub async fn log(&self) -> Vec<Stored> {
        let mut all = Vec::new();
        let jetstream = self.jetstream().await;
        for partition in 0..8 {
            all.extend(read(&jetstream, &format!("EVT-{partition:02}")).await);
        }
        all
    }
    /// Every webhook call that was answered with 200.
    pub async fn inbound(&self) -> Vec<Stored> {
        read(&self.jetstream().await, "INBOUND").await
    }
    pub async fn jetstream(&self) -> jetstream::Context {
        let client = async_nats::connect(&self.env["CHAT4ALL_NATS__URL"]).await;
        jetstream::new(client.unwrap())
    }

    /// The values of a role's metrics whose names and labels begin like this, by how they go on.
    pub async fn metrics(&self, base: &str, series: &str) -> BTreeMap<String, f64> {
        let request = self.request(Method::GET, format!("{base}/metrics"));
        let page = self.send(request).await.body;
        let mut found = BTreeMap::new();
        for line in page.as_str().unwrap().lines() {
            let rest = line.strip_prefix("chat4all_");
            if let Some(rest) = rest.and_then(|line| line.strip_prefix(series)) {
                let (labels, value) = rest.rsplit_once(' ').unwrap();
                found.insert(labels.to_owned(), value.parse().unwrap());
            }
        }
        found
    }

    /// Where a role's process listens, by the variables it was started with.
    pub fn role(&self, name: &str) -> Option<Role> {
        let pid = self.up.process(name)?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let listen = variables.find_map(|one| one.strip_prefix(b"CHAT4ALL_HTTP__LISTEN="))?;
        let url = format!("http://{}", String::from_utf8_lossy(listen));
        Some(Role { pid, url })
    }

    /// Asks a role's process to stop, and `up` starts it again: the new one, once it is ready.
    pub async fn restarted(&self, name: &str) -> Role {
        let before = self.role(name).unwrap();
        send(before.pid, Signal::TERM);
        let look = async || {
            let now = self.role(name).filter(|now| now.pid != before.pid)?;
            let asked = self.request(Method::GET, format!("{}/readyz", now.url));
            let answer = asked.send().await.ok()?;
            (answer.status() == StatusCode::OK).then_some(now)
        };
        let what = format!("`{name}` is ready again");
        until(&what, look, Option::is_some).await.unwrap()
    }

    /// What a `chat4all` command answers that has to succeed, for an operator with this configuration file.
    pub async fn typed(&self, file: &Path, arguments: &[&str]) -> Value {
        let mut command = Command::new(chat4all_program().unwrap());
        command.args(arguments).stdin(Stdio::null());
        command.envs(&self.env).env("CHAT4ALL_CONFIG", file);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A role's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub pid: u32,
    pub url: String,
}

async fn read(jetstream: &jetstream::Context, name: &str) -> Vec<Stored> {
    let stream = jetstream.get_stream(name).await.unwrap();
    let mut all = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let traceparent = message.headers.get("traceparent");
        all.push(Stored {
            subject: message.subject.to_string(),
            at: message.time,
            traceparent: traceparent.map(ToString::to_string),
            body: serde_json::from_slice(&message.payload).unwrap(),
        });
    }
    all
}

/// A participant outside.
pub fn contact(phone: &str) -> Value {
    json!({"channel": "whatsapp", "address": phone})
}

/// A message to a conversation, safe to repeat.
pub fn text(conversation: &str, text: &str) -> Value {
    json!({
        "conversation_id": conversation,
        "message_id": Uuid::now_v7(),
        "content": {"type": "text", "text": text},
    })
}

/// `items` by what `key` says, each by what `name` says, in their order.
pub fn by<'a, T: 'a>(
    items: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&T) -> Option<String>,
    name: impl Fn(&T) -> String,
) -> Messages {
    let mut found = Messages::new();
    for item in items {
        if let Some(key) = key(item) {
            found.entry(key).or_default().push(name(item));
        }
    }
    found
}
