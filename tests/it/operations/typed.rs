//! The `chat4all` commands of docs/operations.md, typed on a running system: each succeeds. What it does is tested where it is made.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chat4all_cli::embedded::chat4all_program;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::chat4all::commands_of;
use crate::journeys::system::{System, text};
use crate::journeys::until;
use crate::place::read_page;
use crate::support::up::send;

const PHONE: &str = "4915150000001";
/// How long one that follows is left alone.
const FOLLOWS: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_page_says_to_type_on_a_running_system_succeeds() {
    let page = read_page("docs/operations.md");
    let system = System::start();
    let seen = Seen::on(&system).await;
    let mut typed = BTreeSet::new();
    for mut command in commands_of(&page, |word| seen.filled(word)) {
        seen.fill_in(&mut command);
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let line = words.join(" ");
        if elsewhere(&words) || !typed.insert(line.clone()) {
            continue;
        }
        let mut process = start(&system, &words);
        if words.contains(&"--follow") {
            tokio::time::sleep(FOLLOWS).await;
            assert!(process.try_wait().unwrap().is_none(), "{line} has ended");
            send(process.id(), Signal::INT);
        }
        let output = tokio::task::block_in_place(|| process.wait_with_output()).unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let right = match words[..] {
            // Only what still runs can be cancelled.
            ["dlq", "cancel", _] => said.contains(" is done"),
            _ => output.status.success(),
        };
        assert!(right, "`chat4all {line}`: {}: {said}", output.status);
        println!("chat4all {line}\n{said}");
        if words.starts_with(&["channels", "pause"]) {
            let resume = [
                "channels",
                "resume",
                "whatsapp-main",
                "--reason",
                "it was typed",
            ];
            super::chat4all(&system, &resume);
        }
    }
    assert!(typed.len() >= 35, "only {}: {typed:#?}", typed.len());
}

/// What is not typed here: what runs until it is stopped (tests start it as `up` does), what wants a broker without a log
/// (`backup::typed` types it), and a command that a sentence only names.
fn elsewhere(words: &[&str]) -> bool {
    let role = [
        "up",
        "all",
        "command-api",
        "projector",
        "query-api",
        "bridges",
    ];
    role.contains(&words[0])
        || words[0] == "restore"
        || ["backup", "dlq redrive"].contains(&words.join(" ").as_str())
}

fn start(system: &System, words: &[&str]) -> Child {
    let mut command = Command::new(chat4all_program().unwrap());
    command.args(words).envs(&system.env).stdin(Stdio::null());
    // The doctor asks the role that listens there.
    let listen = system.commands().trim_start_matches("http://");
    command.env("CHAT4ALL_HTTP__LISTEN", listen);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What the page's examples are about, here.
struct Seen {
    url: String,
    conversation: String,
    message: String,
    /// Of a redrive that was done.
    job: String,
    /// For a file and for copies.
    place: tempfile::TempDir,
}

impl Seen {
    /// A message that could not be delivered twice: one redrive was in vain.
    async fn on(system: &System) -> Self {
        let token = system.env["CHAT4ALL_TOKEN"].clone();
        let conversation = system.group(&token, &[PHONE]).await;
        let away = json!({"to": PHONE, "count": 2, "fault": {"kind": "error", "code": 131_026}});
        system.control(Method::POST, "faults", away).await;
        let body = text(&conversation, "hello");
        let accepted = system.posted(&token, "/v1/messages", &body, 202).await;
        let message = accepted["message_id"].as_str().unwrap().to_owned();
        let path = format!("/v1/conversations/{conversation}/messages/{message}");
        let failed = async || system.rest(&token, &path).await.body["status"].clone();
        until("failed", failed, |status: &Value| {
            *status == json!("FAILED")
        })
        .await;
        super::chat4all(system, &["dlq", "redrive", "--all"]);
        let jobs = start(system, &["dlq", "jobs", "--json"]);
        let jobs = tokio::task::block_in_place(|| jobs.wait_with_output()).unwrap();
        let jobs: Value = serde_json::from_slice(&jobs.stdout).unwrap();
        let failures = async || {
            let log = system.log().await;
            let failed = log
                .iter()
                .filter(|one| one.first("DeliveryFailed").is_some());
            failed.count()
        };
        until("failed again", failures, |count| *count == 2).await;
        let place = tempfile::tempdir().unwrap();
        fs::write(
            place.path().join("new.toml"),
            "[bridges]\nprobe_every_ms = 60000\n",
        )
        .unwrap();
        Self {
            url: system.commands().to_owned(),
            conversation,
            message,
            job: jobs[0]["id"].as_str().unwrap().to_owned(),
            place,
        }
    }

    /// What the page leaves out behind a flag.
    fn fill_in(&self, command: &mut [String]) {
        for at in 1..command.len() {
            let left_out = match command[at - 1].as_str() {
                "--conversation" => &self.conversation,
                "--message" => &self.message,
                _ => continue,
            };
            command[at].clone_from(left_out);
        }
    }

    fn filled(&self, word: &str) -> String {
        let file = |name: &str| self.place.path().join(name).display().to_string();
        match word {
            "<job>" => self.job.clone(),
            "<account>" => "whatsapp-main".to_owned(),
            "failed-delivery:…" => {
                format!("failed-delivery:{}:{}:0", self.conversation, self.message)
            }
            "new.toml" => file("new.toml"),
            "/backup/today" | "/backup/2026-11-22" => file("backup"),
            "/backup/move" => file("move"),
            _ if word.starts_with("http://10.0.0.") => self.url.clone(),
            _ => word.to_owned(),
        }
    }
}
