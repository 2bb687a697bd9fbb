//! A running system on one machine, as its clients, its operator and its provider see it; and its loss.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat4all_cli::embedded::{Nats, NatsOptions, temp_dir};
use chat4all_domain::message;
use chat4all_nats::Change;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::stage::{chat4all, done};
use crate::support::log;
use crate::support::up::{Up, answer, row_of};

const PATIENCE: Duration = Duration::from_secs(150);

/// Messages by conversation, in order.
pub type Messages = BTreeMap<String, Vec<String>>;
pub type Variables = BTreeMap<String, String>;

pub fn started(dir: &Path) -> Up {
    let mut command = Up::command(dir);
    command.env("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000");
    Up::start(dir, command)
}

pub fn phone(client: usize, number: usize) -> String {
    format!("49152{client:03}{number:05}")
}

pub fn text(conversation: &str, words: &str) -> Value {
    json!({"conversation_id": conversation, "content": {"type": "text", "text": words}})
}

pub fn total(messages: &Messages) -> usize {
    messages.values().map(Vec::len).sum()
}

/// Writes until it is told to stop: to a new group with somebody new every few messages.
pub async fn write(api: Api, client: usize, told: Arc<Mutex<Messages>>, stop: Arc<AtomicBool>) {
    let mut groups = 0;
    while !stop.load(Ordering::SeqCst) {
        let key = format!("group-{client}-{groups}");
        let conversation = api.group(&key, &phone(client + 1, groups)).await;
        groups += 1;
        for number in 0..7 {
            let body = text(&conversation, &number.to_string());
            let key = format!("{conversation}-{number}");
            let (status, answer, _) = api.post("/v1/messages", &key, &body).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            let message = answer["message_id"].as_str().unwrap().to_owned();
            let mut told = told.lock().unwrap();
            told.entry(conversation.clone()).or_default().push(message);
        }
    }
}

pub async fn reach(told: &Mutex<Messages>, count: usize) {
    wait_for("enough messages", || async {
        (total(&told.lock().unwrap()) >= count).then_some(())
    })
    .await;
}

pub async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        sleep(Duration::from_millis(50)).await;
    }
}

/// `chat4all backup`, beside everything that goes on.
pub async fn backed_up(env: &Variables, place: &Path) -> PathBuf {
    let dir = place.join("backup");
    let mut command = chat4all(
        &env["CHAT4ALL_NATS__URL"],
        &["backup", dir.to_str().unwrap()],
    );
    command.envs(env);
    let ran = tokio::task::spawn_blocking(move || done(&mut command));
    println!("{}", ran.await.unwrap());
    dir
}

/// What is there when everything was lost and restored: a broker in another place, and no role yet.
pub struct Restored {
    place: tempfile::TempDir,
    nats: Nats,
    /// What its operator's shell has.
    pub env: Variables,
}

impl Restored {
    /// Kills everything, removes everything but the secrets, and restores into a broker in another place.
    pub async fn after_the_loss(
        up: Up,
        first: tempfile::TempDir,
        env: &Variables,
        backup: &Path,
    ) -> Self {
        let secrets = std::fs::read(first.path().join("secrets")).unwrap();
        drop(up);
        drop(first);
        let place = temp_dir().unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(place.path().join("secrets"))
            .unwrap();
        std::io::Write::write_all(&mut file, &secrets).unwrap();
        let nats = Nats::start(NatsOptions::in_dir(place.path().join("nats")))
            .await
            .unwrap();
        let mut env = env.clone();
        env.insert("CHAT4ALL_NATS__URL".to_owned(), nats.url());
        let mut command = chat4all(&nats.url(), &["restore", backup.to_str().unwrap()]);
        command.envs(&env);
        let ran = tokio::task::spawn_blocking(move || done(&mut command));
        println!("{}", ran.await.unwrap());
        Self { place, nats, env }
    }

    /// Stops the broker; gives where everything is.
    pub async fn stopped(mut self) -> tempfile::TempDir {
        self.nats.stop().await.unwrap();
        self.place
    }
}

/// Kills everything, removes everything but the secrets, and restores; what is restored does not run.
pub async fn lost_and_restored(
    up: Up,
    first: tempfile::TempDir,
    env: &Variables,
    backup: &Path,
) -> tempfile::TempDir {
    let restored = Restored::after_the_loss(up, first, env, backup).await;
    restored.stopped().await
}

/// The answer of a `chat4all` command that has to succeed, as JSON; typed without quotes.
pub async fn operator(env: &Variables, typed: &str) -> Value {
    let words: Vec<_> = typed.split(' ').collect();
    let mut command = chat4all(&env["CHAT4ALL_NATS__URL"], &words);
    command.envs(env);
    answer(command).await
}

/// What `chat4all channels ls` says about an account.
pub async fn account(env: &Variables, id: &str) -> Value {
    row_of(&operator(env, "channels ls --json").await, id)
}

/// Every accepted message on the log.
pub async fn on_the_log(env: &Variables) -> Messages {
    let log = log::opened(&env["CHAT4ALL_NATS__URL"], "checker", &log::layout(1)).await;
    let mut found = Messages::new();
    for partition in log.partitions().all() {
        let mut next = 1;
        loop {
            let deadline = Instant::now() + PATIENCE;
            let batch = log.read(partition, next, deadline).await.unwrap();
            let Some(last) = batch.last() else { break };
            assert_eq!(
                last.sequence,
                next + batch.len() as u64 - 1,
                "{partition} has a hole"
            );
            next = last.sequence + 1;
            for stored in &batch {
                let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
                if let Change::Message(
                    message::Id {
                        conversation,
                        message,
                    },
                    _,
                ) = change.unwrap()
                {
                    let messages = found.entry(conversation.to_string()).or_default();
                    messages.push(message.to_string());
                }
            }
        }
    }
    found
}

pub async fn postgres(env: &Variables) -> PgConnection {
    PgConnection::connect(&env["CHAT4ALL_POSTGRES__URL"])
        .await
        .unwrap()
}

/// The rows, once they are those messages, in that order.
pub async fn shown(env: &Variables, expected: &Messages) -> Vec<(String, String, i64)> {
    wait_for("the rows", || async {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "select conversation_id::text, message_id::text, sequence
             from chat4all.messages order by conversation_id, sequence",
        )
        .fetch_all(&mut postgres(env).await)
        .await
        .unwrap();
        let mut found = Messages::new();
        for (conversation, message, _) in &rows {
            let messages = found.entry(conversation.clone()).or_default();
            messages.push(message.clone());
        }
        (found == *expected).then_some(rows)
    })
    .await
}

/// Everybody outside who is in a conversation has an identity.
pub async fn nobody_is_unknown(env: &Variables) {
    wait_for("everybody's identity", || async {
        let unknown: i64 = sqlx::query_scalar(
            "select count(*) from chat4all.participants p
             left join chat4all.identities i using (identity_id)
             where p.identity_id is not null and i.identity_id is null",
        )
        .fetch_one(&mut postgres(env).await)
        .await
        .unwrap();
        (unknown == 0).then_some(())
    })
    .await;
}

/// Every delivery has left: those that were in flight when the copy was made, too.
pub async fn nothing_waits(env: &Variables) {
    wait_for("the last pending delivery", || async {
        let statuses = statuses(env).await;
        statuses
            .values()
            .all(|status| status != "PENDING")
            .then_some(())
    })
    .await;
}

pub async fn statuses(env: &Variables) -> BTreeMap<(String, i32), String> {
    let rows: Vec<(String, i32, String)> =
        sqlx::query_as("select message_id::text, n::int, status from chat4all.deliveries")
            .fetch_all(&mut postgres(env).await)
            .await
            .unwrap();
    let by_key = rows
        .into_iter()
        .map(|(message, n, status)| ((message, n), status));
    by_key.collect()
}

/// The deliveries, once `count` of them and all there are have been read.
pub async fn all_read(env: &Variables, count: usize) -> BTreeMap<(String, i32), String> {
    wait_for("everything to be read", || async {
        let statuses = statuses(env).await;
        let read = statuses.values().all(|status| status == "READ");
        (statuses.len() == count && read).then_some(statuses)
    })
    .await
}

/// Bridges and inbound owners have read everything that is there.
pub async fn caught_up(env: &Variables) {
    let client = log::client(&env["CHAT4ALL_NATS__URL"], "checker").await;
    let js = async_nats::jetstream::new(client);
    let mut durables: Vec<_> = (0..8)
        .map(|p| (format!("EVT-{p:02}"), format!("bridge-whatsapp-{p:02}")))
        .collect();
    durables.push(("INBOUND".to_owned(), "inbound-whatsapp".to_owned()));
    for (stream, durable) in durables {
        wait_for(&durable, || async {
            let info = js.get_stream(&stream).await.unwrap();
            let info = info.consumer_info(&durable).await.ok()?;
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        })
        .await;
    }
}

#[derive(Clone)]
pub struct Api {
    client: Client,
    url: String,
    simulator: String,
    token: String,
}

impl Api {
    pub fn new(env: &Variables) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20));
        Self {
            client: client.build().unwrap(),
            url: env["CHAT4ALL_URL"].clone(),
            simulator: env["CHAT4ALL_SIMULATOR_URL"].clone(),
            token: env["CHAT4ALL_TOKEN"].clone(),
        }
    }

    /// Status, body, and whether it says that it is a repeat.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> (StatusCode, Value, bool) {
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request
            .bearer_auth(&self.token)
            .header("Idempotency-Key", key);
        let answer = request.json(body).send().await.unwrap();
        let replay = answer.headers().contains_key("Idempotent-Replay");
        (answer.status(), answer.json().await.unwrap(), replay)
    }

    /// A group with somebody outside.
    pub async fn group(&self, key: &str, phone: &str) -> String {
        let body =
            json!({"kind": "group", "participants": [{"channel": "whatsapp", "address": phone}]});
        let (status, answer, _) = self.post("/v1/conversations", key, &body).await;
        assert!(status.is_success(), "{status}: {answer}");
        answer["conversation_id"].as_str().unwrap().to_owned()
    }

    pub async fn phone(&self, number: &str) -> Value {
        let url = format!("{}/_sim/phones/{number}", self.simulator);
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub async fn reply(&self, number: &str, quoted: &Value) {
        let url = format!("{}/_sim/phones/{number}/messages", self.simulator);
        let body = json!({"text": "a reply", "reply_to": quoted});
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }

    /// What the provider was handed since it was started, but for what `up` itself sends.
    pub async fn handed_over(&self) -> Vec<String> {
        let url = format!("{}/_sim/calls?limit=1000", self.simulator);
        let page: Value = self
            .client
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert!(page["next"].is_null(), "more than one page");
        let calls = page["items"].as_array().unwrap().iter();
        calls
            .filter(|call| call["accepted"] == true && call["to"] != "4915112345678")
            .map(|call| call["body"]["text"]["body"].as_str().unwrap().to_owned())
            .collect()
    }
}
