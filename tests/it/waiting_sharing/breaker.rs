//! The provider of one of two accounts fails: its breaker opens, the other account goes on, and an operator has it tried at once.

use chat4all_domain::Timestamp;
use chat4all_service::clock;
use serde_json::{Value, json};

use super::site::{
    PATIENCE, TWO, account, by_number, introduce_second_account, operator, reached, second_account,
};
use crate::guarantees::system::{Answer, System, phone};
use crate::support::up::Up;

/// More than a breaker looks at: each of them is one call that fails.
const LANES: usize = 40;
const MAIN: &str = "whatsapp-main";
const TEXTS: [&str; 2] = ["first", "second"];

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_is_of_one_account_and_who_resumes_it_has_it_tried_before_its_time() {
    let simulator = Up::simulator();
    let second = second_account(&simulator);
    let mut settings: Vec<_> = second.iter().map(|(n, v)| (*n, v.as_str())).collect();
    settings.extend([
        // By itself nothing is tried before this test has given up.
        ("CHAT4ALL_BRIDGES__BREAKER_OPEN_MS", "3600000"),
        // What a lane waits is not what is looked at here.
        ("CHAT4ALL_BRIDGES__TRANSIENT_SCHEDULE_MS", "50"),
    ]);
    let system = System::with(false, &settings).await;
    introduce_second_account(&system).await;

    // The provider fails for the numbers of one account.
    let number = &system.env["CHAT4ALL_CHANNELS__WHATSAPP_MAIN__PHONE_NUMBER_ID"];
    let busy = json!({"kind": "http_status", "status": 503});
    let busy = json!({"phone_number_id": number, "fault": busy});
    let fault = system.fault(busy).await;
    let main = said(&system, MAIN, 0).await;
    let look = async || account(&system, MAIN).await;
    let all = LANES * TEXTS.len();
    reached("the breaker is open", PATIENCE, look, |row| {
        row["state"] == "breaker open" && row["waiting"] == all
    })
    .await;
    let row = look().await;
    assert_eq!(row["breaker"]["of"], 20, "{row}");
    assert!(row["breaker"]["failed"].as_u64() >= Some(10), "{row}");

    // The other one goes on, and nobody holds it.
    let two = said(&system, TWO, LANES).await;
    all_are(&system, &two, "READ").await;
    let works =
        |row: &Value| row["state"] == "active" && row["waiting"] == 0 && row["breaker"].is_null();
    let other = async || account(&system, TWO).await;
    reached("the other one works", PATIENCE, other, works).await;
    let row = look().await;
    assert_eq!(row["state"], "breaker open", "{row}");
    let probe_at = moment(&row["breaker"]["probe_at"]);
    all_are(&system, &main, "PENDING").await;

    // Repaired: nobody knows until somebody says so.
    system.repair(fault).await;
    let resume = ["channels", "resume", MAIN, "--reason", "they are back"];
    let word = [&resume[..], &["--by", "anna", "--json"]].concat();
    let resumed = operator(&system, &word).await;
    assert_eq!(resumed["resumed"]["by"], "anna", "{resumed}");
    all_are(&system, &main, "READ").await;
    let now = Timestamp::from(clock::now());
    assert!(now < probe_at, "it was its time anyway");
    reached("it works again", PATIENCE, look, works).await;
    let taken = by_number(&system.taken().await);
    for i in 0..2 * LANES {
        assert_eq!(taken[&phone(i)], TEXTS, "what {} got", phone(i));
    }
}

fn moment(value: &Value) -> Timestamp {
    serde_json::from_value(value.clone()).unwrap()
}

/// Every text to each of so many customers of an account, in as many conversations.
async fn said(system: &System, account: &str, from: usize) -> Vec<Answer> {
    let mut groups = Vec::new();
    for i in from..from + LANES {
        let contact = json!({"channel": account, "address": phone(i)});
        groups.push(system.group_of("ana", &[contact]).await);
    }
    let mut all = Vec::new();
    for text in TEXTS {
        for group in &groups {
            all.push(system.say("ana", group, text).await);
        }
    }
    all
}

/// Waits until the one delivery of each is so.
async fn all_are(system: &System, accepted: &[Answer], wanted: &str) {
    let look = async || {
        let mut others = Vec::new();
        for one in accepted {
            let shown = system.message("ana", one).await;
            let status = &shown["deliveries"][0]["status"];
            others.extend((status != wanted).then(|| status.clone()));
        }
        others
    };
    reached(&format!("all {wanted}"), PATIENCE, look, Vec::is_empty).await;
}
