//! Many at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use serde_json::json;

use crate::support::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sends_at_once_get_a_thousand_ids_and_all_their_receipts() {
    let stage = Arc::new(Stage::start().await);
    let sends = (0..1_000).map(|n| {
        let stage = stage.clone();
        async move {
            stage
                .send(&format!("491511{:07}", n % 200), &format!("hello {n}"))
                .await
        }
    });
    let ids: HashSet<_> = futures::future::join_all(sends).await.into_iter().collect();
    assert_eq!(ids.len(), 1_000);
    let stats = stage.quiet().await;
    assert_eq!(
        (
            &stats["calls"]["accepted"],
            &stats["calls"]["distinct_accepted"]
        ),
        (&json!(1_000), &json!(1_000))
    );
    assert_eq!(stats["webhooks"]["delivered"], 3_000);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for received in stage.receiver.all() {
        let text = |key: &str| received.item[key].as_str().unwrap().to_owned();
        told.entry(text("id")).or_default().push(text("status"));
    }
    assert_eq!(told.len(), 1_000);
    for (id, steps) in told {
        assert!(ids.contains(&id));
        assert_eq!(steps, ["sent", "delivered", "read"], "{id}");
    }
}

/// A measurement, not a test: `cargo test --release … -- --ignored --nocapture throughput`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement for release builds"]
async fn throughput() {
    let stage = Arc::new(
        Stage::with(|config| config.settings = chat4all_simulator::Settings::default()).await,
    );
    const SENDS: usize = 30_000;
    let start = Instant::now();
    futures::stream::iter(0..SENDS)
        .for_each_concurrent(64, |n| {
            let stage = stage.clone();
            async move {
                stage
                    .send(&format!("491511{:07}", n % 2_000), &format!("hello {n}"))
                    .await;
            }
        })
        .await;
    let sent_s = start.elapsed().as_secs_f64();
    stage.quiet().await;
    let told_s = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |seconds: f64| SENDS as f64 / seconds;
    println!(
        "{:.0} sends/s, {:.0} messages/s with all their receipts",
        rate(sent_s),
        rate(told_s)
    );
    assert_eq!(stage.receiver.all().len(), 3 * SENDS);
}
