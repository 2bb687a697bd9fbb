//! The whole of it: `chat4all up` with a role per process, messages coming in over HTTP, answers read over HTTP, and
//! `chat4all rebuild` meanwhile: three times when nothing differs, and once with a live row that somebody has altered.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use chat4all_domain::message::{Content, Event};
use chat4all_nats::Change;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::process::{Said, differing, ended};
use crate::guarantees::system::{Logged, log_of};
use crate::journeys::until;
use crate::support::behind::level;
use crate::support::up::Up;

/// A system with a role per process, and clients that talk all the time.
struct Talk {
    up: Up,
    env: BTreeMap<String, String>,
    done: Arc<AtomicBool>,
    talking: JoinSet<Vec<String>>,
}

impl Talk {
    fn begin(dir: &Path) -> Self {
        let mut command = Up::command(dir);
        command.arg("--split");
        let up = Up::start(dir, command);
        let env = up.variables();
        let done = Arc::new(AtomicBool::new(false));
        let mut talking = JoinSet::new();
        for number in 0..4 {
            talking.spawn(talk(env.clone(), number, Arc::clone(&done)));
        }
        Self {
            up,
            env,
            done,
            talking,
        }
    }

    /// `chat4all rebuild --json`, and with these flags.
    async fn rebuild(&self, flags: &[&str]) -> Said {
        let mut rebuild = Command::new(chat4all_program().unwrap());
        rebuild.args(["rebuild", "--json"]).args(flags);
        rebuild
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ended(rebuild.spawn().unwrap()).await
    }

    /// Lets them finish, and fails if one of them has noticed anything. What each of them has said, in its order; the system
    /// still runs.
    async fn end(&mut self) -> Vec<Vec<String>> {
        self.done.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        while let Some(talked) = self.talking.join_next().await {
            all.push(talked.expect("somebody noticed"));
        }
        let accepted: usize = all.iter().map(Vec::len).sum();
        assert!(accepted > 10, "only {accepted} messages meanwhile");
        println!("{accepted} messages, each read back");
        all
    }
}

/// Posts a message and reads it back, at the position it was given, and with everything before it, until `done`; returns
/// what was accepted.
async fn talk(env: BTreeMap<String, String>, number: usize, done: Arc<AtomicBool>) -> Vec<String> {
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let (commands, queries) = (&env["CHAT4ALL_URL"], &env["CHAT4ALL_QUERY_URL"]);
    let token = &env["CHAT4ALL_TOKEN"];
    let post = async |path: &str, body: Value| {
        let request = client.post(format!("{commands}{path}")).bearer_auth(token);
        let answer = request.json(&body).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let phone = format!("4915177{number:06}");
    let group =
        json!({"kind": "group", "participants": [{"channel": "whatsapp", "address": phone}]});
    let (status, answer) = post("/v1/conversations", group).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let conversation = answer["conversation_id"].as_str().unwrap().to_owned();
    let mut accepted = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let text = format!("message {}", accepted.len());
        let message =
            json!({"conversation_id": conversation, "content": {"type": "text", "text": text}});
        let (status, answer) = post("/v1/messages", message).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        let position = answer["position"].as_str().unwrap();
        let message = answer["message_id"].as_str().unwrap();
        accepted.push(message.to_owned());
        // The new one, and the very first: neither is ever away.
        for message in [message, &accepted[0]] {
            let path = format!("{queries}/v1/conversations/{conversation}/messages/{message}");
            let request = client.get(path).query(&[("at_least", position)]);
            let answer = request.bearer_auth(token).send().await.unwrap();
            let (status, body) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, StatusCode::OK, "{body}");
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_rebuilds_of_a_running_system_are_seen_by_nobody() {
    let dir = temp_dir().unwrap();
    let mut talk = Talk::begin(dir.path());
    for _ in 0..3 {
        let said = talk.rebuild(&[]).await;
        assert_eq!(said.code, Some(0), "{} {}", said.output, said.errors);
        let last = said.json().pop().unwrap();
        assert_eq!(last["outcome"], "swapped", "{last}");
        println!(
            "{} events in {} s, projectors waited {} ms",
            last["events"], last["seconds"], last["held_ms"]
        );
    }
    talk.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_altered_in_a_running_system_is_named_and_is_what_the_log_says_after_the_swap() {
    let dir = temp_dir().unwrap();
    let mut talk = Talk::begin(dir.path());
    let url = &talk.env["CHAT4ALL_POSTGRES__URL"];
    let mut postgres = PgConnection::connect(url).await.unwrap();
    // A client reads it back all the time.
    let first = "select conversation_id, message_id from chat4all.messages
                 where content_text = 'message 0' order by message_id limit 1";
    let look = async || {
        let found = sqlx::query_as::<_, (Uuid, Uuid)>(first).fetch_optional(&mut postgres);
        found.await.unwrap()
    };
    let shown = until("a client has said something", look, Option::is_some).await;
    let (conversation, message) = shown.unwrap();
    let altered = "update chat4all.messages set content_text = 'never said' where message_id = $1";
    let altered = sqlx::query(altered).bind(message).execute(&mut postgres);
    assert_eq!(altered.await.unwrap().rows_affected(), 1);
    let before = live(&mut postgres, message).await;
    assert_eq!(before.1.as_deref(), Some("never said"));

    let refused = talk.rebuild(&[]).await;
    let Said {
        code,
        output,
        errors,
    } = &refused;
    assert_eq!(*code, Some(3), "{output} {errors}");
    let last = refused.json().pop().unwrap();
    assert_eq!(last["outcome"], "refused", "{last}");
    let key = format!("conversation_id={conversation}, message_id={message}");
    let row = json!([{"key": key, "kind": "other", "columns": ["content_text"]}]);
    assert_eq!(differing(&last), [("messages", &row)]);
    assert!(!output.contains("never said") && !errors.contains("never said"));
    assert_eq!(live(&mut postgres, message).await, before, "not untouched");

    let swapped = talk.rebuild(&["--accept-differences"]).await;
    let said = (&swapped.output, &swapped.errors);
    assert_eq!(swapped.code, Some(0), "{said:?}");
    let last = swapped.json().pop().unwrap();
    assert_eq!(last["outcome"], "swapped", "{last}");
    assert_eq!(differing(&last), [("messages", &row)]);
    let after = live(&mut postgres, message).await;
    assert_ne!(after.0, before.0, "the same tables as before");
    assert_eq!(after.1.as_deref(), Some("message 0"));

    let talked = talk.end().await;
    let on_the_log = texts(&log_of(&talk.env).await);
    level(&talk.env).await;
    let rows = "select message_id, content_text from chat4all.messages";
    let rows: Vec<(Uuid, Option<String>)> =
        sqlx::query_as(rows).fetch_all(&mut postgres).await.unwrap();
    let shown: BTreeMap<_, _> = rows
        .into_iter()
        .map(|(message, text)| (message.to_string(), text))
        .collect();
    for accepted in &talked {
        for (number, message) in accepted.iter().enumerate() {
            let said = Some(format!("message {number}"));
            assert_eq!(shown.get(message), Some(&said), "{message}");
        }
    }
    assert_eq!(shown, on_the_log);
    let compared = talk.rebuild(&["--compare-only"]).await;
    assert_eq!(compared.code, Some(0), "{}", compared.output);
    // It was to run all the time.
    assert_eq!(talk.up.child.try_wait().unwrap(), None);
}

/// Which tables are live, and what they say of a message.
async fn live(postgres: &mut PgConnection, message: Uuid) -> (i64, Option<String>) {
    let statement = "select n.oid::bigint, m.content_text
                     from pg_namespace as n, chat4all.messages as m
                     where n.nspname = 'chat4all' and m.message_id = $1";
    let found = sqlx::query_as(statement).bind(message).fetch_one(postgres);
    found.await.unwrap()
}

/// What each message says, by the log.
fn texts(log: &[Logged]) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    for logged in log {
        let Change::Message(id, events) = &logged.change else {
            continue;
        };
        for recorded in events {
            let Event::Accepted { personal, .. } = &recorded.event;
            let text = match &personal.content {
                Content::Text { text } => Some(text.reveal().to_owned()),
                Content::Unsupported { .. } => None,
            };
            found.insert(id.message.to_string(), text);
        }
    }
    found
}
