//! A running `chat4all up`, and everybody around it: users, the provider, an operator.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::{chat4all_program, children_of, is_running, temp_dir};
use chat4all_domain::UserId;
use chat4all_nats::Change;
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::clock;
use futures::future::join_all;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use rustix::process::Signal;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::support::log;
use crate::support::up::{Up, send};

/// Long enough for a machine that does other things as well; what is waited for usually takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Who issues the tokens; user ids are derived from it.
const ISSUER: &str = "chat4all";
/// Whom the first message of `up` goes to.
const FIRST_PHONE: &str = "4915112345678";

/// One `up` in a directory of its own.
pub struct System {
    up: Option<Up>,
    pub env: BTreeMap<String, String>,
    http: Client,
    dir: TempDir,
    split: bool,
    /// What its roles know beside what `up` tells them.
    settings: Vec<(String, String)>,
}

/// What a command was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// `Idempotent-Replay: true`.
    pub replay: bool,
    pub body: Value,
}

impl Answer {
    /// A field that is a text.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        text(&self.body, field)
    }
    /// The problem's code and its first pointer.
    pub fn problem(&self) -> (Option<&str>, Option<&str>) {
        let pointer = &self.body["errors"][0]["pointer"];
        (self.body["code"].as_str(), pointer.as_str())
    }
}

impl System {
    /// All roles in one process.
    pub async fn start() -> Self {
        Self::with(false, &[]).await
    }

    /// Every role a process of its own.
    pub async fn split() -> Self {
        Self::with(true, &[]).await
    }

    /// With these variables for its roles.
    pub async fn with(split: bool, more: &[(&str, &str)]) -> Self {
        let dir = temp_dir().unwrap();
        let rate = ("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000");
        let settings = [&[rate], more].concat();
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.collect();
        let up = started(&dir, split, &settings).await;
        Self {
            env: up.variables(),
            up: Some(up),
            http: http(),
            dir,
            split,
            settings,
        }
    }

    /// A `chat4all` command on this installation, as its operator would type it.
    pub fn chat4all(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(chat4all_program().unwrap());
        command.args(arguments).stdin(Stdio::null());
        command.envs(&self.env).envs(self.settings.clone());
        command
    }

    /// Where it keeps its data and logs.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// The process of a role or server.
    pub fn process(&self, name: &str) -> Option<u32> {
        self.up.as_ref()?.process(name)
    }

    /// Ends everything, broker and database included, and starts it again on what is on the disk. `TERM` asks, `KILL` does
    /// not.
    pub async fn restart(&mut self, signal: Signal) {
        let up = self.up.take().unwrap();
        let children = children_of(up.pid());
        send(up.pid(), signal);
        let (status, said) = tokio::task::spawn_blocking(|| up.wait()).await.unwrap();
        assert_eq!(status.success(), signal != Signal::KILL, "{status}: {said}");
        let left = || async {
            let running = children.iter().filter(|pid| is_running(**pid));
            running.copied().collect::<Vec<_>>()
        };
        until(left, Vec::is_empty).await;
        let up = started(&self.dir, self.split, &self.settings).await;
        self.env = up.variables();
        self.up = Some(up);
    }

    /// A token for the user of that name, who may do everything a user may.
    pub fn token(&self, sub: &str) -> String {
        let secret = SecretString::from(self.env["CHAT4ALL_AUTH__HS256_SECRET"].clone());
        let grant = Grant {
            sub,
            scopes: &[
                Scope::MessagesWrite,
                Scope::ConversationsWrite,
                Scope::ConversationsRead,
            ],
            ttl: Duration::from_secs(3_600),
        };
        mint(&secret, ISSUER, None, &grant, clock::now())
    }

    /// `POST` to the commands as that user.
    pub async fn post(&self, user: &str, path: &str, key: Option<&str>, body: &Value) -> Answer {
        let request = self.command(user, Method::POST, path).json(body);
        answer(match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        })
        .await
    }

    /// A command whose body or headers are still to be said.
    pub fn command(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.env["CHAT4ALL_URL"]);
        self.http.request(method, url).bearer_auth(self.token(user))
    }

    /// A group with these phones that the user starts: its id.
    pub async fn group(&self, user: &str, phones: &[String]) -> String {
        let phones: Vec<_> = phones.iter().map(|phone| contact(phone)).collect();
        self.group_of(user, &phones).await
    }

    /// A group with these participants.
    pub async fn group_of(&self, user: &str, participants: &[Value]) -> String {
        let body = json!({"kind": "group", "participants": participants});
        let started = self.post(user, "/v1/conversations", None, &body).await;
        assert_eq!(started.status, StatusCode::CREATED, "{started:?}");
        started.text("conversation_id")
    }

    /// A message of that user; its answer is 202.
    pub async fn say(&self, user: &str, conversation: &str, text: &str) -> Answer {
        let body = message(conversation, text);
        let accepted = self.post(user, "/v1/messages", None, &body).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
        accepted
    }

    /// `GET` from the REST queries.
    pub async fn rest(&self, user: &str, path: &str, at_least: Option<&str>) -> Value {
        let url = format!("{}{path}", self.env["CHAT4ALL_QUERY_URL"]);
        let position = at_least.map(|position| [("at_least", position)]);
        let request = self.http.get(url).query(&position.as_slice().concat());
        let answer = answer(request.bearer_auth(self.token(user))).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    /// A message with its deliveries and their history, by REST.
    pub async fn message(&self, user: &str, accepted: &Answer) -> Value {
        let (conversation, message) = (
            accepted.text("conversation_id"),
            accepted.text("message_id"),
        );
        let path = format!("/v1/conversations/{conversation}/messages/{message}");
        let position = accepted.text("position");
        self.rest(user, &path, Some(&position)).await
    }

    /// The `data` of a GraphQL query.
    pub async fn graphql(&self, user: &str, query: &str, variables: Value) -> Value {
        let url = format!("{}/graphql", self.env["CHAT4ALL_QUERY_URL"]);
        let body = json!({"query": query, "variables": variables});
        let request = self.http.post(url).json(&body);
        let mut answer = answer(request.bearer_auth(self.token(user))).await;
        assert!(answer.body["errors"].is_null(), "{}", answer.body["errors"]);
        answer.body["data"].take()
    }

    /// Waits until the message has been read by all its recipients and every step has its time (receipts do not come in their
    /// order), and shows it.
    pub async fn read(&self, user: &str, accepted: &Answer) -> Value {
        let look = || self.message(user, accepted);
        let done = |delivery: &Value| {
            let times = ["sent_at", "delivered_at", "read_at"];
            delivery["status"] == "READ" && times.iter().all(|time| delivery[time].is_string())
        };
        let message = until(look, |message| {
            let deliveries = message["deliveries"].as_array().unwrap();
            !deliveries.is_empty() && deliveries.iter().all(done)
        })
        .await;
        assert_eq!(message["status"], "READ", "one answer is of one moment");
        message
    }

    /// The simulator's control API.
    pub async fn simulator(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/_sim/{path}", self.env["CHAT4ALL_SIMULATOR_URL"]);
        let request = self.http.request(method, url);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Turns a knob; what turns it back.
    pub async fn fault(&self, rule: Value) -> u64 {
        let rule = self.simulator(Method::POST, "faults", Some(rule)).await;
        rule["id"].as_u64().unwrap()
    }

    /// Turns a knob back.
    pub async fn repair(&self, fault: u64) {
        let path = format!("faults/{fault}");
        self.simulator(Method::DELETE, &path, None).await;
    }

    /// Every call that the provider took, in order, but for the first message of `up`.
    pub async fn taken(&self) -> Vec<Call> {
        let mut calls = self.taken_since(0).await;
        calls.retain(|call| call.to != FIRST_PHONE);
        calls
    }

    /// The conversation of the first message of `up`.
    pub async fn first_conversation(&self) -> String {
        let calls = self.taken_since(0).await;
        let first = calls.iter().find(|call| call.to == FIRST_PHONE).unwrap();
        first.reference.split('.').next().unwrap().to_owned()
    }

    /// Every call that the provider took after its call of that number.
    pub async fn taken_since(&self, mut since: u64) -> Vec<Call> {
        let mut found = Vec::new();
        loop {
            let path = format!("calls?since={since}&limit=1000");
            let page = self.simulator(Method::GET, &path, None).await;
            assert_eq!(page["dropped"], 0, "the simulator has forgotten calls");
            let taken = page["items"].as_array().unwrap().iter();
            let taken = taken.filter(|call| call["accepted"] == true);
            found.extend(taken.map(Call::of));
            match page["next"].as_u64() {
                Some(next) => since = next,
                None => return found,
            }
        }
    }

    /// What the provider took for that number.
    pub async fn taken_for(&self, phone: &str) -> Vec<Call> {
        let mut calls = self.taken().await;
        calls.retain(|call| call.to == phone);
        calls
    }
}

/// A call that the provider took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number, counted by the provider.
    pub seq: u64,
    pub to: String,
    pub text: String,
    /// The provider's id for it.
    pub provider_id: String,
    /// What we sent along: `<conversation>.<message>.<n>.<attempt>`.
    pub reference: String,
    /// When it came in, in milliseconds.
    pub at_unix_ms: i64,
    /// How long its answer was held back, in milliseconds.
    pub latency_ms: i64,
}

impl Call {
    fn of(call: &Value) -> Self {
        let body = &call["body"];
        Self {
            seq: call["seq"].as_u64().unwrap(),
            to: text(call, "to"),
            text: text(&body["text"], "body"),
            provider_id: text(call, "message_id"),
            reference: text(body, "biz_opaque_callback_data"),
            at_unix_ms: unix_ms(&call["at"]),
            latency_ms: call["latency_ms"].as_i64().unwrap(),
        }
    }
}

/// One message on the log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// When the broker stored it, by its clock.
    pub stored_at: OffsetDateTime,
    pub change: Change,
}

/// Everything on the log, partition by partition, read message by message.
pub async fn log_of(env: &BTreeMap<String, String>) -> Vec<Logged> {
    let mut layout = log::layout(1);
    layout.max_bytes = 0;
    let log = log::opened(&env["CHAT4ALL_NATS__URL"], "checker", &layout).await;
    let partition = async |partition| {
        let stream = log.stream(partition);
        let last = stream.get_info().await.unwrap().state.last_sequence;
        let mut found = Vec::new();
        for sequence in 1..=last {
            let stored = stream.get_raw_message(sequence).await.unwrap();
            found.push(Logged {
                stored_at: stored.time,
                change: Change::read(&stored.subject, sequence, &stored.payload).unwrap(),
            });
        }
        found
    };
    join_all(log.partitions().all().map(partition))
        .await
        .concat()
}

/// The user's id, as commands take it.
pub fn user_id(sub: &str) -> String {
    UserId::derive(ISSUER, sub).to_string()
}

/// Somebody outside, as commands take it.
pub fn contact(phone: &str) -> Value {
    json!({"channel": "whatsapp", "address": phone})
}

/// The body of a message.
pub fn message(conversation: &str, text: &str) -> Value {
    json!({"conversation_id": conversation, "content": {"type": "text", "text": text}})
}

/// A customer's number.
pub fn phone(i: usize) -> String {
    format!("49151{:08}", 20_000_000 + i)
}

/// Waits until `reached` holds for what `look` sees; after that long says what was seen last.
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
        let waited = start.elapsed();
        assert!(waited < PATIENCE, "not reached; last seen: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let replay = response.headers().get("Idempotent-Replay");
    Answer {
        status: response.status(),
        replay: replay.is_some_and(|value| value == "true"),
        body: response.json().await.unwrap(),
    }
}

pub fn http() -> Client {
    let builder = Client::builder().no_proxy();
    builder.timeout(Duration::from_secs(30)).build().unwrap()
}

async fn started(dir: &TempDir, split: bool, settings: &[(String, String)]) -> Up {
    let (dir, settings) = (dir.path().to_owned(), settings.to_vec());
    let start = move || {
        let mut command = Up::command(&dir);
        command.envs(settings);
        if split {
            command.arg("--split");
        }
        Up::start(&dir, command)
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

#[track_caller]
fn text(value: &Value, field: &str) -> String {
    let text = value[field].as_str();
    text.unwrap_or_else(|| panic!("no {field} in {value}"))
        .to_owned()
}

fn unix_ms(at: &Value) -> i64 {
    let text = at.as_str().unwrap_or_else(|| panic!("no time: {at}"));
    let format = &time::format_description::well_known::Rfc3339;
    let at = OffsetDateTime::parse(text, format).unwrap();
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap()
}
