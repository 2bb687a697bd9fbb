//! From one broker to three and back, as docs/operations.md says it: roles stopped, copied, restored, roles started.

use std::path::Path;
use std::process::Command;

use chat4all_cli::embedded::{
    ClusterOptions, Nats, NatsCluster, NatsOptions, Postgres, PostgresOptions, temp_dir,
};
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::Value;

use super::site::{Api, Messages, Variables, all_read, caught_up, on_the_log, shown, text};
use super::stage::{chat4all, done};
use crate::support::up::{Up, send};

/// Nobody but us writes to these.
const PHONES: [&str; 3] = ["4915290000001", "4915290000002", "4915290000003"];

/// Where the log is, and what says so.
struct Broker {
    url: String,
    monitor: String,
    postgres: String,
    replicas: &'static str,
}

impl Broker {
    fn one(nats: &Nats, postgres: &Postgres) -> Self {
        Self {
            url: nats.url(),
            monitor: nats.monitor_url(),
            postgres: postgres.url(),
            replicas: "1",
        }
    }

    fn three(cluster: &NatsCluster, postgres: &Postgres) -> Self {
        let monitors: Vec<_> = cluster.nodes().iter().map(Nats::monitor_url).collect();
        Self {
            url: cluster.url(),
            monitor: monitors.join(","),
            postgres: postgres.url(),
            replicas: "3",
        }
    }

    fn configure(&self, command: &mut Command) {
        command
            .env("CHAT4ALL_NATS__URL", &self.url)
            .env("CHAT4ALL_NATS__MONITOR_URL", &self.monitor)
            .env("CHAT4ALL_POSTGRES__URL", &self.postgres)
            .env("CHAT4ALL_NATS__REPLICAS", self.replicas);
    }

    /// Starts every role on it.
    fn roles(&self, dir: &Path) -> Up {
        let mut command = Up::command(dir);
        self.configure(&mut command);
        tokio::task::block_in_place(|| Up::start(dir, command))
    }

    /// What an operator types, with the configuration of this broker.
    fn typed(&self, env: &Variables, arguments: &[&str]) -> String {
        let mut command = chat4all(&self.url, arguments);
        command.envs(env);
        self.configure(&mut command);
        tokio::task::block_in_place(|| done(&mut command))
    }
}

fn stopped(up: Up) {
    send(up.pid(), Signal::INT);
    let (status, said) = tokio::task::block_in_place(|| up.wait());
    assert!(status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_system_moves_to_three_brokers_and_back_and_loses_doubles_and_repeats_nothing() {
    let place = temp_dir().unwrap();
    let dir = temp_dir().unwrap();
    let node = async |name: &str| {
        let options = NatsOptions::in_dir(place.path().join(name));
        Nats::start(options).await.unwrap()
    };
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(place.path().join("postgres"))
    };
    let postgres = Postgres::start(options).await.unwrap();
    let old = node("old").await;
    let brokers = ClusterOptions::in_dir(place.path().join("cluster"));
    let cluster = NatsCluster::start(brokers).await.unwrap();
    let last = node("last").await;

    let before = Broker::one(&old, &postgres);
    let up = before.roles(dir.path());
    let mut told = Messages::new();
    said(&up, &mut told, "on one", 1).await;
    let up = moved(
        up,
        &before,
        &Broker::three(&cluster, &postgres),
        &place.path().join("there"),
        dir.path(),
    );
    still_there(&up, &told).await;
    said(&up, &mut told, "on three", 2).await;
    let up = moved(
        up,
        &Broker::three(&cluster, &postgres),
        &Broker::one(&last, &postgres),
        &place.path().join("back"),
        dir.path(),
    );
    still_there(&up, &told).await;
    said(&up, &mut told, "on one again", 3).await;
    stopped(up);
}

/// The page's steps, 1 to 5.
fn moved(up: Up, from: &Broker, to: &Broker, copy: &Path, dir: &Path) -> Up {
    let env = up.variables();
    let copy = copy.to_str().unwrap();
    stopped(up);
    from.typed(&env, &["backup", copy]);
    to.typed(&env, &["restore", copy]);
    to.typed(&env, &["provision"]);
    let said = to.typed(
        &env,
        &["doctor", "--only", "broker", "--only", "log", "--json"],
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["well"], true, "{said:#}");
    // On the way back only what a cluster does not offer, and one node would have been made with.
    for finding in said["findings"].as_array().unwrap() {
        let what = finding["what"].as_str().unwrap();
        assert!(
            to.replicas == "1" && what.contains("persist_mode"),
            "{said:#}"
        );
    }
    to.roles(dir)
}

/// Somebody writes to everybody, all of it is read, and the provider was handed just that. `ups`: how often the system was
/// started, each time with a message of its own.
async fn said(up: &Up, told: &mut Messages, words: &str, ups: usize) {
    let env = up.variables();
    let api = Api::new(&env);
    for phone in PHONES {
        let group = api.group(&format!("group-{phone}"), phone).await;
        for number in 0..4 {
            let key = format!("{words}-{phone}-{number}");
            let body = text(&group, &format!("{words} {number}"));
            let (status, answer, _) = api.post("/v1/messages", &key, &body).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            let message = answer["message_id"].as_str().unwrap().to_owned();
            told.entry(group.clone()).or_default().push(message);
        }
    }
    let count: usize = told.values().map(Vec::len).sum();
    all_read(&env, count + ups).await;
    let mut handed = api.handed_over().await;
    handed.sort();
    let mut wanted: Vec<_> = (0..4).map(|number| format!("{words} {number}")).collect();
    wanted = wanted
        .iter()
        .flat_map(|text| vec![text.clone(); PHONES.len()])
        .collect();
    assert_eq!(handed, wanted, "the provider of this time");
    // What is told to others is told before the roles stop.
    caught_up(&env).await;
}

/// On the log and in the rows is what was there, in its order; the same key is the same message; nothing is sent again.
async fn still_there(up: &Up, told: &Messages) {
    let env = up.variables();
    let ours = |mut found: Messages| {
        found.retain(|conversation, _| told.contains_key(conversation));
        found
    };
    assert_eq!(ours(on_the_log(&env).await), *told);
    let all = on_the_log(&env).await;
    shown(&env, &all).await;
    let api = Api::new(&env);
    let phone = PHONES[0];
    let group = api.group(&format!("group-{phone}"), phone).await;
    let first = &told[&group][0];
    let body = text(&group, "on one 0");
    let key = format!("on one-{phone}-0");
    let (_, answer, replay) = api.post("/v1/messages", &key, &body).await;
    assert!(replay, "{answer}");
    assert_eq!(answer["message_id"].as_str(), Some(first.as_str()));
    assert_eq!(api.handed_over().await, Vec::<String>::new());
}
