//! Somebody is removed through one command-api and refused by another: not at some time, but once that one has seen it,
//! which it shows in its metrics.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use chat4all_domain::{ConversationId, ParticipantId, Position, UserId};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::system::{Answer, System, text};
use super::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_removed_through_one_process_is_refused_by_another_once_it_has_seen_that() {
    let system = System::split();
    let second = Second::start(&system).await;
    let processes = [system.commands(), &second.url];
    let (ana, ben) = (system.full("ana"), system.full("ben"));
    // Either removes, and the other refuses.
    for round in 0..10 {
        let (here, there) = (processes[round % 2], processes[(round + 1) % 2]);
        let group = json!({"kind": "group", "participants": [{"user_id": user("ben")}]});
        let path = "/v1/conversations";
        let group = system.post_to(here, &ana, path, &group).await;
        let group = group.body["conversation_id"].as_str().unwrap().to_owned();
        // The other one has the conversation at hand, with ben in it.
        let hello = text(&group, "hello");
        let said = say(&system, there, &ben, &hello).await;
        assert_eq!(said.status, 202, "{}", said.body);

        let removed = remove(&system, here, &ana, &group).await;
        assert_eq!(removed.status, 200, "{}", removed.body);
        let position: Position = removed.body["position"].as_str().unwrap().parse().unwrap();
        until(
            "the other process sees it",
            async || seen(&system, there, position).await,
            |seen| *seen >= position.sequence,
        )
        .await;
        for base in [there, here] {
            refused(&system, base, &ben, &group).await;
            // The answer to what was accepted before stays the same, and its key stays taken.
            let again = say(&system, base, &ben, &hello).await;
            assert_eq!((again.status.as_u16(), again.replay), (202, true));
            assert_eq!(again.body, said.body);
            let mut other = hello.clone();
            other["content"]["text"] = "something else".into();
            let other = say(&system, base, &ben, &other).await;
            assert_eq!(other.status, 422, "{}", other.body);
            assert_eq!(other.body["code"], "idempotency_mismatch");
        }
        let still = say(&system, there, &ana, &text(&group, "ana stays")).await;
        assert_eq!(still.status, 202, "{}", still.body);
        let log = system.log().await;
        let of_group: Vec<_> = log.iter().filter(|one| one.token(4) == group).collect();
        let messages = of_group
            .iter()
            .filter(|one| one.first("MessageAccepted").is_some());
        assert_eq!(messages.count(), 2, "ben's first and ana's");
        assert_eq!(of_group.len(), 4, "started, left, and two messages");
    }
    lost_races_are_counted(&system, &processes, &ana).await;
}

/// Both processes add people to the same group at the same moment: one is faster, the other decides again. All succeed, and the
/// metrics say that there was a conflict.
async fn lost_races_are_counted(system: &System, processes: &[&str; 2], ana: &str) {
    let conflicts = async || {
        let mut all = 0.0;
        for base in processes {
            let series = r#"appends_resolved_total{answer="10071",found="another"}"#;
            let found = system.metrics(base, series).await;
            assert_eq!(found.len(), 1, "{base} counts its conflicts once");
            all += found[""];
        }
        all
    };
    let before = conflicts().await;
    // Who is faster is luck: they race, each time in a group of its own, until somebody has lost.
    for round in 0..100 {
        let group = system.group(ana, &["4915100000009"]).await;
        let path = format!("/v1/conversations/{group}/participants");
        // Several in a row: whoever comes first waits for nobody, and the next ones meet.
        let adds = (0..40).map(async |number| {
            let base = processes[number % 2];
            let somebody = json!({"user_id": user(&format!("{round} {number}"))});
            system.post_to(base, ana, &path, &somebody).await
        });
        for added in join_all(adds).await {
            assert_eq!(added.status, 200, "{}", added.body);
        }
        if conflicts().await > before {
            return;
        }
    }
    panic!("no conflict among 4,000 that were added at once");
}

async fn say(system: &System, base: &str, token: &str, body: &Value) -> Answer {
    system.post_to(base, token, "/v1/messages", body).await
}

async fn remove(system: &System, base: &str, token: &str, group: &str) -> Answer {
    let conversation: ConversationId = group.parse().unwrap();
    let participant = ParticipantId::of_user(conversation, user("ben"));
    let url = format!("{base}/v1/conversations/{group}/participants/{participant}");
    let request = system.request(Method::DELETE, url).bearer_auth(token);
    system.send(request).await
}

/// Neither writing nor marking is for somebody who is not there.
async fn refused(system: &System, base: &str, token: &str, group: &str) {
    let late = say(system, base, token, &text(group, "still here?")).await;
    assert_eq!(late.status, 404, "{}", late.body);
    let mark = json!({"up_to": late.body["message_id"].as_str().unwrap_or(group)});
    let path = format!("/v1/conversations/{group}/read");
    let mark = system.post_to(base, token, &path, &mark).await;
    assert_eq!(mark.status, 404, "{}", mark.body);
}

/// Up to where a process knows who is in which conversation, in the position's partition.
async fn seen(system: &System, base: &str, position: Position) -> u64 {
    let series = format!(
        "membership_seen_sequence{{partition=\"{}\"}}",
        position.partition
    );
    let values = system.metrics(base, &series).await;
    assert_eq!(values.len(), 1, "{series} at {base}");
    values[""] as u64
}

fn user(sub: &str) -> UserId {
    UserId::derive("chat4all", sub)
}

/// Another command-api on the same broker, as an operator starts it.
struct Second {
    child: Child,
    url: String,
    _dir: TempDir,
}

impl Second {
    async fn start(system: &System) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let dir = temp_dir().unwrap();
        let mut command = Command::new(chat4all_program().unwrap());
        command
            .arg("command-api")
            .current_dir(dir.path())
            .envs(&system.env)
            .env("CHAT4ALL_HTTP__LISTEN", listen.to_string())
            .env("CHAT4ALL_TELEMETRY__FILTER", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let second = Self {
            child: command.spawn().unwrap(),
            url: format!("http://{listen}"),
            _dir: dir,
        };
        let ready = async || {
            let request = system.request(Method::GET, format!("{}/readyz", second.url));
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let answer = answer.error_for_status();
            answer.map_err(|error| error.to_string())
        };
        let ready = until("the second command-api", ready, Result::is_ok).await;
        ready.unwrap();
        second
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
