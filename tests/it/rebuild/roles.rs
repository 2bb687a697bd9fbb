//! The whole of it: `chat4all up` with a role per process, messages coming in over HTTP, answers read over HTTP, and
//! `chat4all rebuild` three times meanwhile.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

use super::process::ended;
use crate::support::up::Up;

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
    let mut command = Up::command(dir.path());
    command.arg("--split");
    let up = Up::start(dir.path(), command);
    let env = up.variables();
    let done = Arc::new(AtomicBool::new(false));
    let mut talking = JoinSet::new();
    for number in 0..4 {
        talking.spawn(talk(env.clone(), number, Arc::clone(&done)));
    }
    for _ in 0..3 {
        let mut rebuild = Command::new(chat4all_program().unwrap());
        rebuild.args(["rebuild", "--json"]).envs(&env);
        rebuild
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let said = ended(rebuild.spawn().unwrap()).await;
        assert_eq!(said.code, Some(0), "{} {}", said.output, said.errors);
        let last = said.json().pop().unwrap();
        assert_eq!(last["outcome"], "swapped", "{last}");
        println!(
            "{} events in {} s, projectors waited {} ms",
            last["events"], last["seconds"], last["held_ms"]
        );
    }
    done.store(true, Ordering::SeqCst);
    let mut accepted = 0;
    while let Some(talked) = talking.join_next().await {
        accepted += talked.expect("somebody noticed").len();
    }
    assert!(accepted > 10, "only {accepted} messages meanwhile");
    println!("{accepted} messages, each read back");
}
