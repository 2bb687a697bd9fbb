//! A redrive is stopped where it is, and goes on from there.

use serde_json::json;

use super::scene::{
    all_got, broker, dlq, failed, is_done, job, listed, redriven_on_the_log, refused,
};
use crate::guarantees::system::{System, phone, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redrive_is_cancelled_and_resumed_where_it_was() {
    let system = System::start().await;
    let phones = [phone(1), phone(2)];
    let expected = failed(&system, &phones, 20).await;
    let slowly = ["redrive", "--all", "--rate", "2/s", "--detach"];
    let handed = dlq(&system, &slowly).await;
    let id = handed["id"].as_str().unwrap();
    let runs = job(&system, &handed["id"], |job| {
        job["redriven"].as_u64() >= Some(3)
    })
    .await;
    // Three in little more than a second, if the first was taken at once.
    let per_s = runs["per_s"].as_f64().unwrap();
    assert!(per_s > 0.0 && per_s <= 3.0, "{runs}");
    assert!(runs["seconds_left"].is_u64(), "{runs}");
    let word = dlq(&system, &["cancel", id, "--by", "boris"]).await;
    let said = (&word["state"], &word["word"]["by"]);
    assert_eq!(said, (&json!("cancelled"), &json!("boris")));

    // Its worker has put it away: what it did is noted, and it does no more.
    let broker = broker(&system).await;
    let open = async || {
        let bucket = broker.get_key_value("REDRIVES").await.unwrap();
        let open = bucket.get("open").await.unwrap().unwrap();
        String::from_utf8(open.to_vec()).unwrap()
    };
    until(&open, |open| open == "[]").await;
    let stands = job(&system, &handed["id"], |_| true).await;
    let done = usize::try_from(stands["redriven"].as_u64().unwrap()).unwrap();
    assert!((3..40).contains(&done), "{stands}");
    assert_eq!(stands["state"], "cancelled");
    assert_eq!(redriven_on_the_log(&system).await.len(), done);
    let left = || async { listed(&system, &[]).await.len() };
    until(left, |left| *left == 40 - done).await;

    let word = dlq(&system, &["resume", id, "--by", "boris"]).await;
    assert_ne!(word["state"], "cancelled");
    let done = job(&system, &handed["id"], is_done).await;
    let counts = ["total", "redriven", "skipped", "refused"].map(|field| done[field].as_u64());
    assert_eq!(counts, [Some(40), Some(40), Some(0), Some(0)], "{done}");
    assert_eq!(redriven_on_the_log(&system).await.len(), 40);
    all_got(&system, &expected).await;
    let said = refused(&system, &["cancel", id]).await;
    assert!(said.contains("is done"), "{said}");
}
