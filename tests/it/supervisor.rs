//! The servers we run ourselves, and `chat4all up`: they start, answer, come back, and leave nothing behind.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod servers;
mod up;

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use chat4all_cli::embedded::{Postgres, PostgresOptions, is_running};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something, showing what it saw last if it never does.
#[track_caller]
fn wait_for<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > deadline => {
                panic!("{what} not within {PATIENCE:?}: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[track_caller]
fn wait_until_gone(pids: &[u32]) {
    wait_for("end of all children", || {
        let left: Vec<u32> = pids
            .iter()
            .copied()
            .filter(|&pid| is_running(pid))
            .collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

async fn start_postgres(dir: &Path) -> Postgres {
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(dir)
    };
    Postgres::start(options).await.unwrap()
}

/// Stores one message in a stream that is made if it is not there; `urls` as `NatsCluster::url` gives them.
async fn publish(urls: &str, text: &'static str, replicas: usize) {
    let urls: Vec<&str> = urls.split(',').collect();
    let client = async_nats::connect(urls.as_slice()).await.unwrap();
    let jetstream = jetstream::new(client);
    let config = jetstream::stream::Config {
        name: "T".into(),
        subjects: vec!["t".into()],
        num_replicas: replicas,
        ..Default::default()
    };
    jetstream.get_or_create_stream(config).await.unwrap();
    jetstream
        .publish("t", text.into())
        .await
        .unwrap()
        .await
        .unwrap();
}

async fn published(url: &str, sequence: u64) -> String {
    let client = async_nats::connect(url).await.unwrap();
    let stream = jetstream::new(client).get_stream("T").await.unwrap();
    let message = stream.get_raw_message(sequence).await.unwrap();
    String::from_utf8(message.payload.to_vec()).unwrap()
}
