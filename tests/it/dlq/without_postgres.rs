//! Postgres goes away while a redrive is under way: the job goes on, and the list says what it cannot show.

use async_nats::HeaderMap;
use chat4all_cli::embedded::{Postgres, PostgresOptions, temp_dir};
use serde_json::{Value, json};

use super::scene::{all_got, broker, dlq, failed, is_done, job, listed, ran, refused};
use crate::guarantees::system::{System, phone, until};

const EACH: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_redrive_goes_on_while_postgres_is_away_and_the_list_says_which_kinds_it_leaves_out() {
    let dir = temp_dir().unwrap();
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(dir.path())
    };
    let mut postgres = Postgres::start(options).await.unwrap();
    let url = postgres.url();
    let system = System::with(true, &[("CHAT4ALL_POSTGRES__URL", url.as_str())]).await;
    let phones = [phone(1), phone(2)];
    let expected = failed(&system, &phones, EACH).await;
    put_aside(&system).await;
    assert_eq!(listed(&system, &[]).await.len(), 2 * EACH + 1);

    let slowly = ["redrive", "--kind", "failed-delivery", "--rate", "2/s"];
    let handed = dlq(&system, &[&slowly[..], &["--detach"]].concat()).await;
    assert_eq!(handed["total"], json!(2 * EACH));
    postgres.stop().await.unwrap();
    let stands = job(&system, &handed["id"], |_| true).await;
    assert!(!is_done(&stands), "nothing is left to do: {stands}");

    // What is on the broker is shown, and whoever reads it knows what is not.
    let output = ran(&system, &["ls", "--json"]).await;
    let complained = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{complained}");
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |list: &str| -> Vec<Value> {
        let all = page[list].as_array().unwrap().iter();
        all.map(|one| one["kind"].clone()).collect()
    };
    assert_eq!(of("dead_letters"), ["parked"], "{page}");
    assert_eq!(of("left_out"), ["poison", "failed-delivery"], "{page}");
    for kind in ["poison", "failed-delivery"] {
        let says = format!("{kind} left out: ");
        assert!(complained.contains(&says), "{complained}");
    }
    // With nothing to show it is no list.
    let said = refused(&system, &["ls", "--kind", "failed-delivery"]).await;
    assert!(said.contains("Postgres"), "{said}");

    // The job needs no Postgres, and neither does whoever looks at it.
    let done = job(&system, &handed["id"], is_done).await;
    let counts = ["redriven", "skipped", "refused"].map(|field| done[field].as_u64());
    let all = u64::try_from(2 * EACH).unwrap();
    assert_eq!(counts, [Some(all), Some(0), Some(0)], "{done}");
    all_got(&system, &expected).await;

    // It is back: the list is complete, and what was sent is not on it any more.
    postgres.restart().await.unwrap();
    let left = || async { listed(&system, &[]).await.len() };
    until(left, |left| *left == 1).await;
}

/// Something that came in and that nobody can read.
async fn put_aside(system: &System) {
    let mut headers = HeaderMap::new();
    headers.insert("reason", "odd");
    headers.insert("channel-account", "whatsapp-main");
    let subject = "chat.parked.whatsapp.item.whatsapp-main";
    let broker = broker(system).await;
    let put = broker.publish_with_headers(subject, headers, "{}".into());
    put.await.unwrap().await.unwrap();
}
