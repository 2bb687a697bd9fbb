//! Lag that grows, by the steps of docs/operations.md: `chat4all lag`, the doctor, the projector's metrics, its log. First a
//! partition is halted, then the projector stands still, then Postgres is away; after each repair nothing is behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use chat4all_cli::embedded::{Postgres, PostgresOptions, chat4all_program, temp_dir};
use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use super::system::{System, text};
use super::until;
use crate::support::up::send;

const PHONE: &str = "4915170000001";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lag_is_seen_where_it_is_with_its_cause_and_is_gone_after_the_repair() {
    let place = temp_dir().unwrap();
    let file = place.path().join("chat4all.toml");
    std::fs::write(&file, "[projector]\npoison = \"halt\"\n").unwrap();
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(place.path().join("postgres"))
    };
    let mut postgres = Postgres::start(options).await.unwrap();
    let url = postgres.url();
    let system = System::with(|command| {
        command.arg("--split").env("CHAT4ALL_CONFIG", &file);
        command.env("CHAT4ALL_POSTGRES__URL", url);
    });
    let ana = system.full("ana");
    let group = system.group(&ana, &[PHONE]).await;
    let say = async || {
        let body = text(&group, "hello");
        system.posted(&ana, "/v1/messages", &body, 202).await
    };
    let said = say().await;
    let position = said["position"].as_str().unwrap();
    let (partition, _) = position.split_once('-').unwrap();
    let lag = async || Lag::of(&system, &file).await;
    until("nothing is behind", lag, Lag::is_none).await;

    // What no release of ours wrote, in the partition of that group.
    let js = system.jetstream().await;
    let subject = format!("chat.evt.{partition}.message.{group}.{}", Uuid::now_v7());
    let stored = js.publish(subject, "no envelope".into()).await.unwrap();
    let at = format!("{partition}-{}", stored.await.unwrap().sequence);
    let mut before = 0;
    for _ in 0..2 {
        say().await;
        let grown = |lag: &Lag| lag.is_of(partition, before);
        let seen = until("it grows, there and nowhere else", lag, grown).await;
        before = seen.told[partition];
    }
    let one = BTreeMap::from([(series(partition), 1.0)]);
    assert_eq!(projector_says(&system, "halted").await, one);
    let halted = format!("partition {partition} is halted before the event at {at}");
    assert!(log(&system).contains(&halted), "not in its log: {halted}");

    // Somebody has looked at it, and lets it be parked.
    std::fs::write(&file, "[projector]\npoison = \"park\"\n").unwrap();
    system.restarted("projector").await;
    until("nothing is behind any more", lag, Lag::is_none).await;
    assert_eq!(projector_says(&system, "halted").await, BTreeMap::new());
    assert_eq!(projector_says(&system, "dead_letters_total").await, one);

    // It stands still, as on a suspended machine; its own metrics stand, too.
    let projector = system.role("projector").unwrap();
    send(projector.pid, Signal::STOP);
    let behind = async || told(&system, &file).await;
    before = 0;
    for _ in 0..2 {
        say().await;
        let grown = |told: &BTreeMap<String, u64>| told[partition] > before;
        let seen = until("it grows while nobody folds", behind, grown).await;
        before = seen[partition];
    }
    let wrong = async || wrong(&system, &file).await;
    let nobody = "nobody works on partitions 00 01 02 03 04 05 06 07 of `projector`";
    until("the doctor says that nobody works on it", wrong, |said| {
        said.iter().any(|what| what == nobody)
    })
    .await;
    send(projector.pid, Signal::CONT);
    until("nothing is behind once it goes on", lag, Lag::is_none).await;
    until("the doctor finds nothing", wrong, Vec::is_empty).await;
    let now = system.role("projector").unwrap();
    assert_eq!(now, projector, "another one did it");

    postgres.stop().await.unwrap();
    say().await;
    until(
        "it is behind again",
        async || projector_says(&system, "lag_events").await,
        |lag| lag.get(&series(partition)).is_some_and(|lag| *lag > 0.0),
    )
    .await;
    until(
        "the log says why",
        async || log(&system),
        |log| log.contains("folding was interrupted"),
    )
    .await;
    postgres.restart().await.unwrap();
    until("nothing is behind at last", lag, Lag::is_none).await;
}

/// How far the read models are behind, by partition.
#[derive(Debug)]
struct Lag {
    /// As `chat4all lag` says it.
    told: BTreeMap<String, u64>,
    /// As the projector measures it.
    measured: BTreeMap<String, f64>,
}

impl Lag {
    async fn of(system: &System, file: &Path) -> Self {
        Self {
            told: told(system, file).await,
            measured: projector_says(system, "lag_events").await,
        }
    }

    fn is_none(&self) -> bool {
        (self.told.len(), self.measured.len()) == (8, 8)
            && self.told.values().all(|lag| *lag == 0)
            && self.measured.values().all(|lag| *lag == 0.0)
    }

    /// More than `events` are missing of this partition, and of no other.
    fn is_of(&self, partition: &str, events: u64) -> bool {
        let there = |of: &str| of == partition || of == series(partition);
        let told = |(of, lag): (&String, &u64)| (*lag > events) == there(of);
        let measured = |(of, lag): (&String, &f64)| (*lag > events as f64) == there(of);
        (self.told.len(), self.measured.len()) == (8, 8)
            && self.told.iter().all(told)
            && self.measured.iter().all(measured)
    }
}

/// How far the read models are behind, as `chat4all lag` says it.
async fn told(system: &System, file: &Path) -> BTreeMap<String, u64> {
    let rows = system.typed(file, &["lag", "--json"]).await;
    let rows = rows.as_array().unwrap().iter();
    let models = rows.filter(|row| row["reader"] == "read models");
    let behind = |row: &Value| {
        let partition = row["partition"].as_str().unwrap().to_owned();
        (partition, row["behind"].as_u64().unwrap())
    };
    models.map(behind).collect()
}

/// What `chat4all doctor --only readers` finds wrong.
async fn wrong(system: &System, file: &Path) -> Vec<String> {
    let mut command = Command::new(chat4all_program().unwrap());
    command.args(["doctor", "--only", "readers", "--json"]);
    command.envs(&system.env).env("CHAT4ALL_CONFIG", file);
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = said["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|one| one["weight"] == "wrong");
    wrong
        .map(|one| one["what"].as_str().unwrap().to_owned())
        .collect()
}

/// How `/metrics` ends a series of one partition.
fn series(partition: &str) -> String {
    format!("partition=\"{partition}\"}}")
}

/// A metric of the projector, by partition.
async fn projector_says(system: &System, what: &str) -> BTreeMap<String, f64> {
    let projector = system.role("projector").unwrap();
    let series = format!("projector_{what}{{");
    system.metrics(&projector.url, &series).await
}

/// What the projector has logged.
fn log(system: &System) -> String {
    let file = system.directory().join("log/projector.log");
    std::fs::read_to_string(file).unwrap()
}
