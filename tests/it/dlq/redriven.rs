//! One, those that flags let through, all: in order, once, and history says who.

use serde_json::json;

use super::scene::{
    OPERATOR, all_got, dlq, failed, got, ids, is_done, job, listed, ran, redriven_on_the_log,
};
use crate::guarantees::system::{System, phone, until, user_id};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_some_and_all_are_redriven_once_and_history_says_by_whom() {
    let system = System::start().await;
    let phones = [phone(1), phone(2), phone(3)];
    let mut expected = failed(&system, &phones, 6).await;
    let all = listed(&system, &[]).await;

    // What would be done is the order of the messages, and does nothing.
    let dry = dlq(&system, &["redrive", "--all", "--dry-run"]).await;
    assert_eq!(dry["total"], 18);
    assert_eq!(redriven_on_the_log(&system).await, []);

    // One: the newest failure.
    let one = all[0]["id"].as_str().unwrap();
    let done = dlq(&system, &["redrive", one]).await;
    assert!(is_done(&done), "{done}");
    assert_eq!((&done["total"], &done["redriven"]), (&json!(1), &json!(1)));
    assert_eq!(done["by_name"], OPERATOR);
    let events = redriven_on_the_log(&system).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1["by"], json!(user_id(OPERATOR)));

    // Some: one conversation, in which the one that was asked for by itself came first.
    let first = until(|| got(&system, &phones), |got| !got.is_empty()).await;
    let (phone, texts) = first.first_key_value().unwrap();
    let in_order = expected.get_mut(phone).unwrap();
    in_order.rotate_right(1);
    assert_eq!(texts[..], in_order[..1]);
    let conversation = all[0]["conversation"].as_str().unwrap();
    let done = dlq(
        &system,
        &["redrive", "--conversation", conversation, "--rate", "100/s"],
    )
    .await;
    assert_eq!(
        (&done["redriven"], &done["skipped"]),
        (&json!(5), &json!(0))
    );

    // All that is left, handed over; and once more, when nothing is.
    let handed = dlq(
        &system,
        &["redrive", "--all", "--rate", "100/s", "--detach"],
    )
    .await;
    let done = job(&system, &handed["id"], is_done).await;
    assert_eq!(
        (&done["total"], &done["redriven"]),
        (&json!(12), &json!(12))
    );
    all_got(&system, &expected).await;
    let mut named: Vec<_> = redriven_on_the_log(&system).await;
    named.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(named.len(), 18);
    named.dedup_by(|a, b| a.0 == b.0);
    assert_eq!(named.len(), 18, "each once");
    let nothing = ran(&system, &["redrive", "--all"]).await;
    assert_eq!(
        String::from_utf8(nothing.stdout).unwrap(),
        "nothing to redrive\n"
    );

    // Who asks for what there is not is told so, and what there is.
    let nobody = ran(&system, &["redrive", "--account", "nope"]).await;
    assert_eq!(nobody.status.code(), Some(0));
    let said = String::from_utf8(nobody.stderr).unwrap();
    let nothing = "no open dead letter matches: account nope; accounts in the configuration: ";
    assert!(said.contains(nothing), "{said}");
    assert!(said.contains("whatsapp-main"), "{said}");

    let jobs = dlq(&system, &["jobs"]).await;
    let jobs = jobs.as_array().unwrap();
    let said: Vec<_> = jobs
        .iter()
        .map(|job| job["what"].as_str().unwrap())
        .collect();
    assert_eq!(said, [one, &format!("conversation {conversation}"), "all"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_operators_at_once_redrive_each_failure_once_and_in_order() {
    let system = System::split().await;
    let phones = [phone(1), phone(2)];
    let expected = failed(&system, &phones, 30).await;
    assert_eq!(ids(&listed(&system, &[]).await).len(), 60);
    let redrive = ["redrive", "--all", "--rate", "50/s"];
    let (one, other) = tokio::join!(dlq(&system, &redrive), dlq(&system, &redrive));
    assert_ne!(one["id"], other["id"]);
    assert!(is_done(&one) && is_done(&other), "{one} {other}");
    let count = |field: &str| one[field].as_u64().unwrap() + other[field].as_u64().unwrap();
    // One may have come after the other was done with some.
    assert_eq!((count("redriven"), count("refused")), (60, 0));
    all_got(&system, &expected).await;
    let events = redriven_on_the_log(&system).await;
    assert_eq!(events.len(), 60);
    assert!(events.iter().all(|(_, facts)| facts["generation"] == 1));
}
