//! The whole system: a backup while clients write, then everything but the backup and the secrets is gone.

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
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::stage::{chat4all, done};
use crate::support::log;
use crate::support::up::Up;

const CLIENTS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(150);

/// Messages by conversation, in order.
type Messages = BTreeMap<String, Vec<String>>;
type Variables = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_accepted_before_a_backup_under_load_is_there_after_everything_else_is_lost() {
    let (first, place) = (temp_dir().unwrap(), temp_dir().unwrap());
    let up = started(first.path());
    let env = up.variables();
    let (told, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
        clients.spawn(write(Api::new(&env), client, told, stop));
    }
    reach(&told, 300).await;
    let before = told.lock().unwrap().clone();
    let dir = backed_up(&env, place.path()).await;
    let during = total(&told.lock().unwrap());
    reach(&told, during + 100).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let told = told.lock().unwrap().clone();
    println!(
        "{} accepted before the backup, {during} when it ended, {} in all",
        total(&before),
        total(&told)
    );

    let second = lost_and_restored(up, first, &env, &dir).await;
    let up = started(second.path());
    let env = up.variables();
    let on_log = on_the_log(&env).await;
    let mut extra = on_log.clone();
    extra.retain(|conversation, _| !told.contains_key(conversation));
    assert_eq!(
        total(&extra),
        2,
        "more than what both `up`s have sent: {extra:?}"
    );
    for (conversation, messages) in &told {
        let found = on_log.get(conversation).cloned().unwrap_or_default();
        let known = before.get(conversation).map_or(0, Vec::len);
        assert!(
            found.len() >= known,
            "{known} were accepted in {conversation} before, {} are on the log",
            found.len()
        );
        assert!(
            messages.starts_with(&found),
            "{conversation}: {found:?} of {messages:?}"
        );
    }
    println!("{} on the restored log", total(&on_log) - 2);
    shown(&env, &on_log).await;
    nobody_is_unknown(&env).await;
    nothing_waits(&env).await;

    // The log remembers keys, and goes on.
    let api = Api::new(&env);
    let (conversation, messages) = before.iter().next().unwrap();
    let (key, body) = (format!("{conversation}-0"), text(conversation, "0"));
    let (status, answer, replay) = api.post("/v1/messages", &key, &body).await;
    assert_eq!((status, replay), (StatusCode::ACCEPTED, true), "{answer}");
    assert_eq!(answer["message_id"], messages[0].as_str());
    let (status, ..) = api
        .post("/v1/messages", "new", &text(conversation, "new"))
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_nobody_writes_a_restored_system_is_the_old_one_and_sends_nothing_again() {
    let (first, place) = (temp_dir().unwrap(), temp_dir().unwrap());
    let up = started(first.path());
    let env = up.variables();
    let api = Api::new(&env);
    let mut told = Messages::new();
    for group in 0..6 {
        let conversation = api.group(&format!("g{group}"), &phone(0, group)).await;
        for number in 0..8 {
            let body = text(&conversation, &format!("message {number}"));
            let (status, answer, _) = api
                .post("/v1/messages", &format!("{conversation}-{number}"), &body)
                .await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            let message = answer["message_id"].as_str().unwrap().to_owned();
            told.entry(conversation.clone()).or_default().push(message);
        }
    }
    // And what `up` itself sends.
    all_read(&env, total(&told) + 1).await;
    // An answer that quotes a message of the group belongs into the group, not into a conversation of its own.
    for group in 0..6 {
        let quoted = api.phone(&phone(0, group)).await["messages"][0]["id"].clone();
        api.reply(&phone(0, group), &quoted).await;
    }
    let inbound = wait_for("the replies", || async {
        let found = on_the_log(&env).await;
        let of_groups = told.iter().all(|(id, messages)| {
            found
                .get(id)
                .is_some_and(|found| found.len() == messages.len() + 1)
        });
        of_groups.then_some(found)
    });
    let on_log = inbound.await;
    let rows = shown(&env, &on_log).await;
    let deliveries = all_read(&env, total(&told) + 1).await;

    let dir = backed_up(&env, place.path()).await;
    let second = lost_and_restored(up, first, &env, &dir).await;
    let up = started(second.path());
    let env = up.variables();
    let api = Api::new(&env);
    caught_up(&env).await;
    for conversation in told.keys() {
        let (status, answer, _) = api
            .post("/v1/messages", "after", &text(conversation, "after"))
            .await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    let mut after = all_read(&env, total(&told) + 2 + told.len()).await;
    after.retain(|key, _| deliveries.contains_key(key));
    assert_eq!(after, deliveries);
    // What both `up`s have sent is alone in one conversation.
    let now = on_the_log(&env).await;
    assert_eq!(total(&now), total(&on_log) + told.len() + 1);
    for (conversation, messages) in &on_log {
        assert!(now[conversation].starts_with(messages), "{conversation}");
    }
    let mut rows_now = shown(&env, &now).await;
    rows_now.retain(|row| rows.contains(row));
    assert_eq!(rows_now, rows);
    let sent = api.handed_over().await;
    assert_eq!(sent, vec!["after"; told.len()], "something was sent again");
}

fn started(dir: &Path) -> Up {
    let mut command = Up::command(dir);
    command.env("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__RATE_PER_S", "1000");
    Up::start(dir, command)
}

fn phone(client: usize, number: usize) -> String {
    format!("49152{client:03}{number:05}")
}

fn text(conversation: &str, words: &str) -> Value {
    json!({"conversation_id": conversation, "content": {"type": "text", "text": words}})
}

fn total(messages: &Messages) -> usize {
    messages.values().map(Vec::len).sum()
}

/// Writes until it is told to stop: to a new group with somebody new every few messages.
async fn write(api: Api, client: usize, told: Arc<Mutex<Messages>>, stop: Arc<AtomicBool>) {
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

async fn reach(told: &Mutex<Messages>, count: usize) {
    wait_for("enough messages", || async {
        (total(&told.lock().unwrap()) >= count).then_some(())
    })
    .await;
}

async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
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
async fn backed_up(env: &Variables, place: &Path) -> PathBuf {
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

/// Kills everything, removes everything but the secrets, and restores into a broker in another place.
async fn lost_and_restored(
    up: Up,
    first: tempfile::TempDir,
    env: &Variables,
    backup: &Path,
) -> tempfile::TempDir {
    let secrets = std::fs::read(first.path().join("secrets")).unwrap();
    drop(up);
    drop(first);
    let second = temp_dir().unwrap();
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(second.path().join("secrets"))
        .unwrap();
    std::io::Write::write_all(&mut file, &secrets).unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(second.path().join("nats")))
        .await
        .unwrap();
    let mut command = chat4all(&nats.url(), &["restore", backup.to_str().unwrap()]);
    command.envs(env).env("CHAT4ALL_NATS__URL", nats.url());
    let ran = tokio::task::spawn_blocking(move || done(&mut command));
    println!("{}", ran.await.unwrap());
    nats.stop().await.unwrap();
    second
}

/// Every accepted message on the log.
async fn on_the_log(env: &Variables) -> Messages {
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

async fn postgres(env: &Variables) -> PgConnection {
    PgConnection::connect(&env["CHAT4ALL_POSTGRES__URL"])
        .await
        .unwrap()
}

/// The rows, once they are those messages, in that order.
async fn shown(env: &Variables, expected: &Messages) -> Vec<(String, String, i64)> {
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
async fn nobody_is_unknown(env: &Variables) {
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
async fn nothing_waits(env: &Variables) {
    wait_for("the last pending delivery", || async {
        let statuses = statuses(env).await;
        statuses
            .values()
            .all(|status| status != "PENDING")
            .then_some(())
    })
    .await;
}

async fn statuses(env: &Variables) -> BTreeMap<(String, i32), String> {
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
async fn all_read(env: &Variables, count: usize) -> BTreeMap<(String, i32), String> {
    wait_for("everything to be read", || async {
        let statuses = statuses(env).await;
        let read = statuses.values().all(|status| status == "READ");
        (statuses.len() == count && read).then_some(statuses)
    })
    .await
}

/// Bridges and inbound owners have read everything that is there.
async fn caught_up(env: &Variables) {
    let client = async_nats::connect(&env["CHAT4ALL_NATS__URL"])
        .await
        .unwrap();
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
struct Api {
    client: Client,
    url: String,
    simulator: String,
    token: String,
}

impl Api {
    fn new(env: &Variables) -> Self {
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
    async fn post(&self, path: &str, key: &str, body: &Value) -> (StatusCode, Value, bool) {
        let request = self.client.post(format!("{}{path}", self.url));
        let request = request
            .bearer_auth(&self.token)
            .header("Idempotency-Key", key);
        let answer = request.json(body).send().await.unwrap();
        let replay = answer.headers().contains_key("Idempotent-Replay");
        (answer.status(), answer.json().await.unwrap(), replay)
    }

    /// A group with somebody outside.
    async fn group(&self, key: &str, phone: &str) -> String {
        let body =
            json!({"kind": "group", "participants": [{"channel": "whatsapp", "address": phone}]});
        let (status, answer, _) = self.post("/v1/conversations", key, &body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["conversation_id"].as_str().unwrap().to_owned()
    }

    async fn phone(&self, number: &str) -> Value {
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

    async fn reply(&self, number: &str, quoted: &Value) {
        let url = format!("{}/_sim/phones/{number}/messages", self.simulator);
        let body = json!({"text": "a reply", "reply_to": quoted});
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
    }

    /// What the provider was handed since it was started, but for what `up` itself sends.
    async fn handed_over(&self) -> Vec<String> {
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
