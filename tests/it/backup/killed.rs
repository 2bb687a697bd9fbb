//! Killed half-way, or interrupted.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use chat4all_cli::embedded::{Nats, Port, temp_dir};
use chat4all_nats::backup::{RESTORED, RESTORING, Snapshot, Upload, contents};
use rustix::process::Signal;
use serde_json::Value;

use super::stage::{backup, chat4all, content, done, js, refused, restore};
use crate::projector::story::Story;
use crate::support::log::{client, empty_node, layout, one_node};
use crate::support::up::send;

/// Kills it with -9 as soon as it has said `words`.
fn kill_at(command: &mut Command, words: &str) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    until_said(&mut child, words);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Ctrl-C as soon as it has said `words`: its exit code, and what it says to that.
fn interrupt_at(command: &mut Command, words: &str) -> (Option<i32>, String) {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    until_said(&mut child, words);
    send(child.id(), Signal::INT);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

fn until_said(child: &mut Child, words: &str) {
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut said = output.lines().map(Result::unwrap);
    assert!(
        said.any(|line| line.contains(words)),
        "it ended without saying {words:?}"
    );
}

/// A role as a process, killed at the end.
struct Waiting(Child, String);

impl Waiting {
    fn start(role: &str, nats: &Nats) -> Self {
        let address = format!("127.0.0.1:{}", Port::Any.pick().unwrap());
        let mut command = chat4all(&nats.url(), &[role]);
        command
            .env("CHAT4ALL_NATS__MONITOR_URL", nats.monitor_url())
            .env("CHAT4ALL_HTTP__LISTEN", &address)
            .stderr(Stdio::null());
        Self(command.spawn().unwrap(), format!("http://{address}/readyz"))
    }

    /// Waits until readiness has this status and says these words.
    async fn until(&self, status: u16, words: &str) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = String::new();
        while Instant::now() < deadline {
            if let Ok(answer) = client.get(&self.1).send().await {
                let found = answer.status().as_u16();
                seen = format!("{found} {}", answer.text().await.unwrap());
                if found == status && seen.contains(words) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not {status} {words:?}, but {seen:?}");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_goes_on_and_nothing_starts_on_half_a_log() {
    let place = temp_dir().unwrap();
    let (dir, other) = (place.path().join("b"), place.path().join("other"));
    let (old, new) = tokio::join!(one_node(), empty_node());
    let url = new.nats.url();
    let story = Story::new(&old.log);
    for number in 1..=20 {
        story.whole_journeys(number, 1).await;
    }
    done(&mut backup(&old.nats.url(), &other));
    done(&mut backup(&old.nats.url(), &dir));

    kill_at(&mut restore(&url, &dir), "restored   EVT-01 ");
    // Although the first partitions are there as a whole: the operator's command is refused, and roles wait.
    let roles = ["command-api", "bridges"].map(|role| Waiting::start(role, &new.nats));
    for role in &roles {
        let says = "is from a restore that is not complete";
        role.until(503, says).await;
    }
    let said = refused(&mut chat4all(&url, &["provision"]));
    assert!(
        said.contains("end it with `chat4all restore` and the same backup"),
        "{said}"
    );
    let said = refused(&mut chat4all(&url, &["doctor", "--only", "log"]));
    assert!(
        said.contains("mend:  end it: `chat4all restore DIR` with the same backup"),
        "{said}"
    );
    let said = refused(&mut restore(&url, &other));
    assert!(
        said.contains("the broker has a part of another backup"),
        "{said}"
    );

    // A stream whose copy broke off is not there, and does not keep the next one from being made.
    let (broker, wanted) = (client(&url, "breaks off").await, "EVT-07");
    let mut copy = Snapshot::begin(old.log.client(), wanted).await.unwrap();
    let what = (copy.config.clone(), copy.state);
    let mut upload = Upload::begin(&broker, wanted, what, 1, "x").await.unwrap();
    // Half of its only piece: the broker makes a stream as soon as the last byte of it is there.
    let piece = copy.next().await.unwrap().unwrap();
    upload.send(piece.slice(..piece.len() / 2)).await.unwrap();
    drop((upload, copy));

    done(&mut restore(&url, &dir));
    for role in &roles {
        role.until(200, "ready").await;
    }
    drop(roles);
    let new = new.opened().await;
    let (old, new) = (js(&old.log), js(&new.log));
    assert_same(&old, &new).await;

    // Killed in its last step, before and after the last mark was changed: it can be repeated.
    let last = new.get_stream("EVT-00").await.unwrap();
    let mut config = last.cached_info().config.clone();
    let backup = config.metadata.remove(RESTORED).expect("it says so");
    config.metadata.insert(RESTORING.to_owned(), backup);
    new.update_stream(config).await.unwrap();
    assert!(refused(&mut chat4all(&url, &["provision"])).contains("EVT-00"));
    done(&mut restore(&url, &dir));
    done(&mut chat4all(&url, &["log", "--limit", "1"]));
    let said = done(&mut restore(&url, &dir));
    assert!(said.contains("was restored from"), "{said}");
    let said = refused(&mut restore(&url, &other));
    assert!(said.contains("the broker is not empty"), "{said}");
    assert_same(&old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_interrupted_says_so_and_the_same_command_goes_on() {
    let place = temp_dir().unwrap();
    let dir = place.path().join("b");
    let (old, new) = tokio::join!(one_node(), empty_node());
    let url = new.nats.url();
    let story = Story::new(&old.log);
    for number in 1..=20 {
        story.whole_journeys(number, 1).await;
    }
    done(&mut backup(&old.nats.url(), &dir));

    let (code, said) = interrupt_at(&mut restore(&url, &dir), "restored   EVT-01 ");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("chat4all restore: interrupted"), "{said}");
    let said = refused(&mut chat4all(&url, &["provision"]));
    assert!(
        said.contains("is from a restore that is not complete"),
        "{said}"
    );

    let said = done(restore(&url, &dir).arg("--json"));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["was_complete"], false, "{said}");
    let made = said["restored"].as_array().unwrap();
    let again = ["EVT-00", "EVT-01"].map(Value::from);
    assert!(
        !made.iter().any(|stream| again.contains(stream)),
        "what was there was made once more: {said}"
    );
    let new = new.opened().await;
    assert_same(&js(&old.log), &js(&new.log)).await;
}

async fn assert_same(old: &Context, new: &Context) {
    for stream in contents(&layout(1)) {
        let (old, new) = (content(old, &stream).await, content(new, &stream).await);
        assert_eq!(new, old, "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_killed_is_not_taken_for_one_and_the_next_one_works() {
    let place = temp_dir().unwrap();
    let old = one_node().await;
    let story = Story::new(&old.log);
    for number in 1..=20 {
        story.whole_journeys(number, 1).await;
    }
    let url = old.nats.url();
    let mut killed = 0;
    for number in 0..20 {
        let dir = place.path().join(number.to_string());
        kill_at(&mut backup(&url, &dir), "copied     KV_LANES");
        // Faster than the kill: whole.
        if dir.exists() {
            done(&mut chat4all(
                &url,
                &["backup", "--verify", dir.to_str().unwrap()],
            ));
            continue;
        }
        killed += 1;
        let partial = dir.with_extension("partial");
        let said = refused(&mut restore("nats://127.0.0.1:1", &partial));
        assert!(
            said.contains("was interrupted before it was complete"),
            "{said}"
        );
        let said = refused(&mut backup(&url, &dir));
        assert!(said.contains("was interrupted, or is being made"), "{said}");
        std::fs::remove_dir_all(&partial).unwrap();
        // Also of a stream that the broker still believes to be copied.
        done(&mut backup(&url, &dir));
        if killed == 3 {
            return;
        }
    }
    panic!("only {killed} of 20 backups were still being made when they were killed");
}
