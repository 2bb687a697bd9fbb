//! One of two accounts needs its operator.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::site::{
    NUMBER_OF_TWO, PATIENCE, TWO, account, broker_is_back, by_number, introduce_second_account,
    kill, leases, operator, reached, second_account,
};
use crate::guarantees::system::{Answer, System, phone};
use crate::support::up::{Up, send};

const LANES: usize = 40;
const MAIN: &str = "whatsapp-main";
const TEXTS: [&str; 3] = ["first", "second", "third"];

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_holds_one_account_a_pause_another_and_both_drain_in_order() {
    let simulator = Up::simulator();
    let second = second_account(&simulator);
    let settings: Vec<_> = second.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let system = System::with(false, &settings).await;
    assert_eq!(system.env["CHAT4ALL_SIMULATOR_URL"], simulator);
    introduce_second_account(&system).await;
    assert_eq!(account(&system, MAIN).await["state"], "active");

    // The first account's token expires; the second one's has not.
    let expired =
        json!({"phone_number_id": number_of_main(&system), "fault": {"kind": "token_expired"}});
    let fault = system.fault(expired).await;
    let main = said(&system, MAIN, 0).await;
    let two = said(&system, TWO, LANES).await;
    all_are(&system, &two, "READ").await;
    let held = async || account(&system, MAIN).await;
    let all = (LANES * TEXTS.len()) as u64;
    reached("held", PATIENCE, held, |row| {
        row["state"] == "held" && row["waiting"] == all
    })
    .await;
    let row = held().await;
    assert_eq!(row["held"]["reason"], "INACTIVE_CREDENTIAL", "{row}");
    assert_eq!(row["held"]["code"], "190", "{row}");
    assert!(row["held"]["probe_at"].is_string(), "{row}");
    assert_eq!(account(&system, TWO).await["state"], "active");
    assert!(
        statuses(&system, &main)
            .await
            .iter()
            .all(|s| s == "PENDING")
    );
    assert_eq!(taken_through(&system, &number_of_main(&system)).await, 0);

    // The second one is paused: also a bridge that was killed and came back knows.
    let pause = ["channels", "pause", TWO, "--reason", "incident 4711"];
    let paused = operator(&system, &[&pause[..], &["--by", "anna", "--json"]].concat()).await;
    assert_eq!(paused["state"], "paused", "{paused}");
    assert_eq!(paused["paused"]["by"], "anna");
    assert_eq!(paused["paused"]["reason"], "incident 4711");
    let before: BTreeSet<_> = leases(&system, "projector").await.into_values().collect();
    send(system.process("all").unwrap(), Signal::KILL);
    let again = async || leases(&system, "projector").await;
    reached("everything works again", PATIENCE, again, |leases| {
        leases.len() == 8 && leases.values().all(|worker| !before.contains(worker))
    })
    .await;
    broker_killed(&system).await;
    let later = said(&system, TWO, LANES).await;
    let waits = async || account(&system, TWO).await;
    reached("all wait", PATIENCE, waits, |row| {
        row["state"] == "paused" && row["waiting"] == all
    })
    .await;
    let still = waits().await;
    for field in ["by", "reason"] {
        assert_eq!(still["paused"][field], paused["paused"][field], "{still}");
    }
    assert_eq!(taken_through(&system, NUMBER_OF_TWO).await, all);
    // The other one is held as it was before anything was killed.
    reached("still held", PATIENCE, held, |row| {
        row["state"] == "held" && row["waiting"] == all
    })
    .await;
    let still = held().await;
    for field in ["reason", "code"] {
        assert_eq!(still["held"][field], row["held"][field], "{still}");
    }
    assert_eq!(taken_through(&system, &number_of_main(&system)).await, 0);
    let resume = ["channels", "resume", TWO, "--reason", "all is well"];
    let resumed = operator(
        &system,
        &[&resume[..], &["--by", "bert", "--json"]].concat(),
    )
    .await;
    assert_eq!(resumed["state"], "active", "{resumed}");
    assert_eq!(resumed["resumed"]["by"], "bert");
    all_are(&system, &later, "READ").await;
    assert!(
        statuses(&system, &main)
            .await
            .iter()
            .all(|s| s == "PENDING")
    );

    // Repaired: tried when its operator says so, long before the minute is over, or at the next try.
    system.repair(fault).await;
    let resume = ["channels", "resume", MAIN, "--reason", "new token"];
    operator(
        &system,
        &[&resume[..], &["--by", "anna", "--json"]].concat(),
    )
    .await;
    all_are(&system, &main, "READ").await;
    let row = account(&system, MAIN).await;
    assert_eq!(
        (&row["state"], &row["waiting"]),
        (&json!("active"), &json!(0)),
        "{row}"
    );
    let taken = by_number(&system.taken().await);
    for i in 0..LANES {
        assert_eq!(taken[&phone(i)], TEXTS, "{MAIN}");
        let twice = [TEXTS, TEXTS].concat();
        assert_eq!(taken[&phone(LANES + i)], twice, "{TWO}");
    }
    // A word that names nobody's account is a mistake, and says which there are.
    let mut wrong = system.chat4all(&["channels", "pause", "whatsapp", "--reason", "x"]);
    let output = wrong.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("whatsapp-main, whatsapp-two"), "{said}");
}

/// The broker is killed, and comes back without what it had in memory; then bridges and projector work again.
async fn broker_killed(system: &System) {
    kill(system.process("nats-server").unwrap()).await;
    broker_is_back(system).await;
    for shared in ["projector", "bridge-whatsapp"] {
        let look = async || leases(system, shared).await;
        reached("works with another broker", PATIENCE, look, |leases| {
            leases.len() == 8
        })
        .await;
    }
}

fn number_of_main(system: &System) -> String {
    system.env["CHAT4ALL_CHANNELS__WHATSAPP_MAIN__PHONE_NUMBER_ID"].clone()
}

/// Three texts to each of so many customers of an account, in as many conversations.
async fn said(system: &System, account: &str, from: usize) -> Vec<Answer> {
    let mut groups = Vec::new();
    for i in from..from + LANES {
        let contact = json!({"channel": account, "address": phone(i)});
        let key = format!("group-{account}-{i}");
        let body = json!({"kind": "group", "participants": [contact]});
        let group = system
            .post("ana", "/v1/conversations", Some(&key), &body)
            .await;
        assert!(group.status.is_success(), "{group:?}");
        groups.push(group.text("conversation_id"));
    }
    let mut all = Vec::new();
    for text in TEXTS {
        for group in &groups {
            let accepted = system.say("ana", group, text).await;
            assert_eq!(accepted.status, StatusCode::ACCEPTED);
            all.push(accepted);
        }
    }
    all
}

async fn statuses(system: &System, accepted: &[Answer]) -> Vec<String> {
    let mut all = Vec::new();
    for one in accepted {
        let shown = system.message("ana", one).await;
        all.push(
            shown["deliveries"][0]["status"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    all
}

async fn all_are(system: &System, accepted: &[Answer], wanted: &str) {
    let look = async || {
        let mut others = statuses(system, accepted).await;
        others.retain(|status| status != wanted);
        others
    };
    reached(&format!("all {wanted}"), PATIENCE, look, Vec::is_empty).await;
}

/// Calls that the provider took for one of our numbers, but for the first message of `up`.
async fn taken_through(system: &System, number: &str) -> u64 {
    let mut since = 0;
    let mut count = 0;
    loop {
        let path = format!("calls?since={since}&limit=1000");
        let page = system.simulator(Method::GET, &path, None).await;
        let items = page["items"].as_array().unwrap();
        let taken = |call: &&Value| {
            let ours = call["phone_number_id"] == number && call["accepted"] == true;
            ours && call["to"].as_str().unwrap().starts_with("491512")
        };
        count += items.iter().filter(taken).count() as u64;
        match page["next"].as_u64() {
            Some(next) => since = next,
            None => return count,
        }
    }
}
