//! The `nats …` commands of docs/operations.md: the tool itself is not fetched, so each is taken apart, and what it would do is
//! done on a running system through the same API. That shows that streams, buckets, keys, subjects and sequences of the page
//! exist and that the broker allows what it says; that the tool takes these words is shown by nothing here. The `psql …` commands
//! are typed as they stand ([`psql`]), those of ours are understood ([`mod@chat4all`]) and typed ([`typed`]).

mod chat4all;
pub mod psql;
mod query;
mod room;
mod typed;

use std::process::Command;

use async_nats::jetstream::{self, kv, stream::Compression};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::journeys::system::{System, text};
use crate::journeys::until;
use crate::place::read_page;

/// Of a group that is in partition 07, as the page's examples are.
const PHONE: &str = "4915150000093";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_nats_command_of_the_page_finds_what_it_names_and_may_do_what_it_says() {
    let page = read_page("docs/operations.md");
    let commands = commands(&page);
    assert!(
        commands.len() >= 18,
        "only {}: {commands:#?}",
        commands.len()
    );
    let system = System::start();
    let js = system.jetstream().await;
    let conversation = in_partition_seven(&system, &page).await;
    let held = [
        "channels",
        "pause",
        "whatsapp-main",
        "--reason",
        "a test",
        "--by",
        "anna",
    ];
    chat4all(&system, &held);
    let parked = js.publish("chat.parked.whatsapp.item", "{}".into()).await;
    parked.unwrap().await.unwrap();
    let asks = Asks {
        js,
        conversation: conversation.clone(),
    };
    // Leases come within a moment.
    let leases = async || {
        let all = asks.keys("LEASES").await;
        all.iter().filter(|key| key.ends_with(".07")).count()
    };
    until("leases of partition 07", leases, |count| *count >= 2).await;
    for command in &commands {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        if let Err(why) = asks.done(&words).await {
            panic!("`nats {}`: {why}", words.join(" "));
        }
    }
}

/// What the page calls by number or name is looked for here.
struct Asks {
    js: jetstream::Context,
    conversation: String,
}

impl Asks {
    /// Does what the command would do; why it cannot be done.
    async fn done(&self, words: &[&str]) -> Result<(), String> {
        match *words {
            ["stream", "report"] => {
                let names: Vec<String> =
                    self.js.stream_names().try_collect().await.map_err(said)?;
                let whole = names.iter().filter(|name| name.starts_with("EVT-"));
                (whole.count() == 8).then_some(()).ok_or("not eight".into())
            }
            ["stream", "info", name] | ["stream", "info", name, "--json"] => {
                self.stream(name).await.map(drop)
            }
            // On one node nobody else can lead; that there is such a stream is all that can be seen.
            ["stream", "cluster", "step-down", name] => self.stream(name).await.map(drop),
            ["stream", "view", name] => self.holds(name, ">").await,
            ["stream", "view", name, "--subject", subject] => {
                let subject = subject.replace("<conversation>", &self.conversation);
                self.holds(name, &subject).await
            }
            ["stream", "get", name, sequence] => {
                let stream = self.stream(name).await?;
                let sequence = self.sequence(&stream, sequence)?;
                stream.get_raw_message(sequence).await.map_err(said)?;
                Ok(())
            }
            ["stream", "rmm", name, sequence] => {
                let stream = self.stream(name).await?;
                let sequence = self.sequence(&stream, sequence)?;
                stream.delete_message(sequence).await.map_err(said)?;
                Ok(())
            }
            ["stream", "edit", name, "--max-bytes", size] => {
                let bytes = bytes(size)?;
                let mut config = self.stream(name).await?.cached_info().config.clone();
                config.max_bytes = bytes;
                let edited = self.js.update_stream(config).await.map_err(said)?;
                let found = edited.config.max_bytes;
                (found == bytes)
                    .then_some(())
                    .ok_or(format!("it is {found}"))
            }
            ["stream", "edit", name, "--compression", "none"] => {
                let mut config = self.stream(name).await?.cached_info().config.clone();
                for compression in [Compression::S2, Compression::None] {
                    config.compression = Some(compression);
                    self.js.update_stream(&config).await.map_err(said)?;
                }
                let edited = self.stream(name).await?;
                let found = &edited.cached_info().config.compression;
                (!matches!(found, Some(Compression::S2)))
                    .then_some(())
                    .ok_or(format!("it is {found:?}"))
            }
            // Named in a sentence, of any stream.
            ["consumer", "report"] => Ok(()),
            ["consumer", "report", name] => {
                let stream = self.stream(name).await?;
                let names: Vec<String> =
                    stream.consumer_names().try_collect().await.map_err(said)?;
                let projector = format!("projector-{}", &name[4..]);
                let there = names.contains(&projector);
                there
                    .then_some(())
                    .ok_or(format!("no {projector}: {names:?}"))
            }
            ["kv", "ls", bucket] => {
                let keys = self.keys(bucket).await;
                let named = ["projector.07", "projector.worker."];
                let there = named
                    .iter()
                    .all(|name| keys.iter().any(|key| key.starts_with(name)));
                there.then_some(()).ok_or(format!("{keys:?}"))
            }
            ["kv", "get", bucket, key] | ["kv", "get", bucket, key, "--raw"] => {
                let found = self.bucket(bucket).await?.get(key).await.map_err(said)?;
                let value = found.ok_or("no such key")?;
                (!value.is_empty()).then_some(()).ok_or("empty".into())
            }
            ["kv", "del", bucket, key] => {
                let key = key.replace("<account>", "whatsapp-main");
                let bucket = self.bucket(bucket).await?;
                bucket.get(&key).await.map_err(said)?.ok_or("no such key")?;
                bucket.delete(&key).await.map_err(said)
            }
            _ => Err("this test does not know it: say here what it does".into()),
        }
    }

    async fn stream(&self, name: &str) -> Result<jetstream::stream::Stream, String> {
        self.js.get_stream(name).await.map_err(said)
    }

    async fn bucket(&self, name: &str) -> Result<kv::Store, String> {
        self.js.get_key_value(name).await.map_err(said)
    }

    async fn keys(&self, bucket: &str) -> Vec<String> {
        let bucket = self.js.get_key_value(bucket).await.unwrap();
        bucket.keys().await.unwrap().try_collect().await.unwrap()
    }

    /// Whether something stands there on that subject.
    async fn holds(&self, name: &str, subject: &str) -> Result<(), String> {
        let stream = self.stream(name).await?;
        let subjects = stream.info_with_subjects(subject).await.map_err(said)?;
        let subjects: Vec<_> = subjects.try_collect().await.map_err(said)?;
        (!subjects.is_empty())
            .then_some(())
            .ok_or(format!("nothing on {subject}"))
    }

    /// A number of the page is one of many: here it is the last that there is.
    fn sequence(&self, stream: &jetstream::stream::Stream, word: &str) -> Result<u64, String> {
        let number = word == "<sequence>" || word.parse::<u64>().is_ok();
        let last = stream.cached_info().state.last_sequence;
        (number && last > 0)
            .then_some(last)
            .ok_or(format!("no message, or no number: {word}"))
    }
}

/// A size as the tool takes it.
fn bytes(size: &str) -> Result<i64, String> {
    let number = size.strip_suffix("GB").ok_or("a size in GB")?;
    Ok(number.parse::<i64>().map_err(said)? << 30)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A conversation in partition 07, by the page's own way to tell.
async fn in_partition_seven(system: &System, page: &str) -> String {
    let ana = system.full("ana");
    let tell = page
        .lines()
        .find(|line| line.starts_with("python3 -c"))
        .unwrap();
    for _ in 0..200 {
        let group = system.group(&ana, &[PHONE]).await;
        let line = tell.replace("<conversation>", &group);
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let partition = String::from_utf8(output.stdout).unwrap();
        let accepted = system
            .posted(&ana, "/v1/messages", &text(&group, "hello"), 202)
            .await;
        let position = accepted["position"].as_str().unwrap();
        assert_eq!(position.split_once('-').unwrap().0, partition.trim());
        if partition.trim() == "07" {
            let read = async || {
                let path = format!(
                    "/v1/conversations/{group}/messages/{}",
                    accepted["message_id"].as_str().unwrap()
                );
                system.rest(&ana, &path).await.body["status"].clone()
            };
            until("read", read, |status: &Value| *status == json!("READ")).await;
            return group;
        }
    }
    panic!("none of 200 is in partition 07");
}

fn chat4all(system: &System, arguments: &[&str]) {
    let mut command = Command::new(chat4all_cli::embedded::chat4all_program().unwrap());
    let output = command.args(arguments).envs(&system.env).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// Every command of the page that begins with `nats`, word by word.
fn commands(page: &str) -> Vec<Vec<String>> {
    let code = code(page);
    let commands = code
        .iter()
        .filter_map(|line| line.trim().strip_prefix("nats "));
    commands.map(words).collect()
}

/// What can be typed: each line of the page's blocks, and in its sentences what stands between backticks.
fn code(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 1 {
            found.extend(part.lines().map(str::to_owned));
        } else {
            let spans = part.split('`').skip(1).step_by(2);
            found.extend(spans.map(|span| span.replace('\n', " ")));
        }
    }
    found
}

/// Without what follows behind a pipe or is a comment; quotes hold a word together.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let line = line.split(" | ").next().unwrap_or_default();
    let words = line.split_whitespace();
    words
        .map(|word| word.trim_matches('\'').to_owned())
        .collect()
}

#[test]
fn commands_are_found_in_blocks_and_in_sentences_and_taken_apart() {
    let page = "Look:\n```sh\nnats stream info EVT-07 --json | jq x   # so much\nls\n```\nor `nats kv\nls LEASES`, `nats-server` not.";
    let wanted = [
        vec!["stream", "info", "EVT-07", "--json"],
        vec!["kv", "ls", "LEASES"],
    ];
    assert_eq!(commands(page), wanted);
}
