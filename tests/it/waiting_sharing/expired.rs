//! A message waited longer than it is worth delivering. What everybody sees of that, and what an operator does about it.

use serde_json::{Value, json};

use super::site::{PATIENCE, account, operator, reached};
use crate::guarantees::system::{System, phone};

/// Less than the time until a held account is tried again; enough for what is redriven on a busy machine.
const VALID_FOR_S: &str = "15";
const MAIN: &str = "whatsapp-main";
const EXPIRED: &str = "MESSAGE_EXPIRED";

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_too_long_has_failed_as_expired_and_a_redrive_counts_anew() {
    let valid_for = ("CHAT4ALL_BRIDGES__VALID_FOR_S", VALID_FOR_S);
    let system = System::with(false, &[valid_for]).await;
    let token_expired = json!({"fault": {"kind": "token_expired"}});
    let fault = system.fault(token_expired).await;
    let group = system.group("ana", &[phone(1)]).await;
    let accepted = system.say("ana", &group, "hello").await;

    // Its account is held, and nobody comes in time.
    let look = async || system.message("ana", &accepted).await["deliveries"][0].clone();
    reached("expired", PATIENCE, look, |shown| {
        shown["status"] == "FAILED"
    })
    .await;
    let shown = look().await;
    assert_eq!(shown["failure_reason"], EXPIRED, "{shown}");
    assert_eq!(shown["failure_class"], "PERMANENT", "{shown}");
    let held = async || account(&system, MAIN).await;
    reached("held, and nothing waits", PATIENCE, held, |row| {
        row["state"] == "held" && row["waiting"] == 0
    })
    .await;
    let taken = system.taken_for(&phone(1)).await;
    assert!(taken.is_empty(), "{taken:?}");

    let letters = listed(&system).await;
    let message = accepted.text("message_id");
    let number = &shown["number"];
    let id = format!("failed-delivery:{group}:{message}:{number}");
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["id"], id, "{letters:?}");

    // Repaired; what has failed stays failed until somebody redrives it.
    system.repair(fault).await;
    let resume = ["channels", "resume", MAIN, "--reason", "new token"];
    let word = [&resume[..], &["--by", "anna", "--json"]].concat();
    operator(&system, &word).await;
    let redrive = ["dlq", "redrive", "--reason", EXPIRED, "--by", "anna"];
    let word = [&redrive[..], &["--detach", "--json"]].concat();
    let handed = operator(&system, &word).await;
    assert_eq!(handed["total"], 1, "{handed}");
    let job = handed["id"].as_str().unwrap();
    let look = async || operator(&system, &["dlq", "jobs", job, "--json"]).await;
    reached("redriven", PATIENCE, look, |job| job["state"] == "done").await;
    assert_eq!(look().await["redriven"], 1);

    let read = system.read("ana", &accepted).await;
    assert_eq!(read["deliveries"][0]["generation"], 1, "{read}");
    let taken = system.taken_for(&phone(1)).await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].text, "hello");
    assert_eq!(listed(&system).await, Vec::<Value>::new());
}

/// The dead letters with that reason.
async fn listed(system: &System) -> Vec<Value> {
    let page = operator(system, &["dlq", "ls", "--reason", EXPIRED, "--json"]).await;
    page["dead_letters"].as_array().unwrap().clone()
}
