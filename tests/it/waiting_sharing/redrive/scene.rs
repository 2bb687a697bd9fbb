//! Failures, a redrive of all of them, and the process that works on it.

use std::collections::BTreeMap;

use chat4all_domain::delivery::Event;
use chat4all_nats::Change;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::guarantees::system::{Logged, System, log_of, phone};
use crate::support::behind::level;
use crate::waiting_sharing::owner::Owner;
use crate::waiting_sharing::site::{PATIENCE, by_number, reached};
use crate::whole_system::in_flight::{self, InFlight};
use crate::whole_system::{Messages, all_read, total};

const PHONES: usize = 6;
const EACH: usize = 10;
const ALL: usize = PHONES * EACH;
/// So many are done when something happens to its worker.
const SOME: u64 = 10;
/// The provider cannot reach the recipient: final, until somebody redrives.
const UNREACHABLE: u64 = 131_026;

pub struct Scene {
    /// Works on the redrive.
    pub owner: Owner,
    system: System,
    /// The redrive.
    id: String,
    /// What has failed: messages by conversation, in their order.
    told: Messages,
    /// What each phone is to get, in its order.
    texts: BTreeMap<String, Vec<String>>,
}

impl Scene {
    /// Some are done, and most are not.
    pub async fn at_work() -> Self {
        let system = System::split().await;
        let (told, texts) = failed(&system).await;
        let owner = Owner::start(&system, &[]).await;
        let redrive = ["redrive", "--all", "--rate", "5/s", "--detach"];
        let handed = dlq(&system, &redrive).await;
        assert_eq!(handed["total"], json!(ALL), "{handed}");
        let id = handed["id"].as_str().unwrap().to_owned();
        let scene = Self {
            owner,
            system,
            id,
            told,
            texts,
        };
        scene.has_done(SOME).await;
        scene
    }

    /// The redrive, as an operator sees it.
    pub async fn job(&self) -> Value {
        dlq(&self.system, &["jobs", self.id.as_str()]).await
    }

    /// Waits until so many are done.
    pub async fn has_done(&self, many: u64) {
        let look = async || self.job().await;
        reached("so many are done", PATIENCE, look, |job| {
            job["done"].as_u64() >= Some(many)
        })
        .await;
    }

    /// Waits until somebody else has what its worker had; how many were noted as done before.
    pub async fn is_taken_over(&self) -> u64 {
        let left = self.job().await;
        let done = left["done"].as_u64().unwrap();
        assert!(done < ALL as u64, "nothing is left: {left}");
        self.owner.is_replaced(&self.system).await;
        done
    }

    /// Waits until all are done.
    pub async fn is_done(&self) {
        let look = async || self.job().await;
        reached("done", PATIENCE, look, |job| job["state"] == "done").await;
    }

    /// Waits until its worker has its half again.
    pub async fn is_back(&self) {
        self.owner.is_back(&self.system).await;
    }

    /// Each failure was redriven once, in their order, and handed over once, but for what was in flight at `moment`.
    pub async fn each_once(&self, moment: OffsetDateTime) {
        // One that its first worker had no time to note counts as skipped: it was redriven all the same.
        let job = self.job().await;
        let sum = |field: &str| job[field].as_u64().unwrap();
        assert_eq!(job["state"], "done", "{job}");
        assert_eq!(sum("redriven") + sum("skipped"), ALL as u64, "{job}");
        assert_eq!(sum("refused"), 0, "{job}");
        all_read(&self.system, ALL).await;
        let log = log_of(&self.system.env).await;
        let redriven = deliveries(&log, |event| matches!(event, Event::Redriven { .. }));
        assert_eq!(redriven, self.told, "each once, and in their order");
        let calls = self.system.taken().await;
        in_flight::nobody_overtaken(&calls);
        let (firsts, repeats) = in_flight::apart(&calls);
        assert_eq!(by_number(&firsts), self.texts);
        in_flight::all_explained(&repeats, &[InFlight::at(&log, moment)]);
    }
}

/// So many deliveries have failed, and the read models show it; the provider takes them from now on. Messages by conversation,
/// and texts by phone, in their order.
async fn failed(system: &System) -> (Messages, BTreeMap<String, Vec<String>>) {
    let (mut told, mut texts) = (Messages::new(), BTreeMap::<_, Vec<_>>::new());
    let mut groups = Vec::new();
    for phone in (0..PHONES).map(phone) {
        let fault = json!({"kind": "error", "code": UNREACHABLE});
        let rule = json!({"to": phone, "count": EACH, "fault": fault});
        system.fault(rule).await;
        let group = system.group("ana", std::slice::from_ref(&phone)).await;
        groups.push((phone, group));
    }
    for turn in 0..EACH {
        for (phone, group) in &groups {
            let text = turn.to_string();
            let accepted = system.say("ana", group, &text).await;
            let messages = told.entry(group.clone()).or_default();
            messages.push(accepted.text("message_id"));
            texts.entry(phone.clone()).or_default().push(text);
        }
    }
    let look = async || {
        let log = log_of(&system.env).await;
        let failed = deliveries(&log, |event| matches!(event, Event::Failed { .. }));
        total(&failed)
    };
    reached("all have failed", PATIENCE, look, |failed| *failed == ALL).await;
    level(&system.env).await;
    (told, texts)
}

/// The messages whose deliveries have such an event, once for each of them, by conversation and in the log's order.
fn deliveries(log: &[Logged], is: fn(&Event) -> bool) -> Messages {
    let mut found = Messages::new();
    for logged in log {
        let Change::Delivery(id, events) = &logged.change else {
            continue;
        };
        let messages = events.iter().filter(|recorded| is(&recorded.event));
        let messages = messages.map(|_| id.message.to_string());
        let messages: Vec<_> = messages.collect();
        if !messages.is_empty() {
            let conversation = found.entry(id.conversation.to_string()).or_default();
            conversation.extend(messages);
        }
    }
    found
}

/// What `chat4all dlq … --json` prints when it succeeds.
async fn dlq(system: &System, arguments: &[&str]) -> Value {
    let mut command = system.chat4all(&[&["dlq"], arguments, &["--json"]].concat());
    command.env("USER", "olga").env_remove("SUDO_USER");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}
