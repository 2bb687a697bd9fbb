//! How long it takes, beside the time that `COPY` needs for the same rows. Run by hand, in a release build:
//!
//! ```sh
//! CHAT4ALL_EVENTS=1000000 cargo test --release --workspace --test it -- rebuild::speed --ignored --nocapture
//! ```

use std::time::Duration;

use chat4all_domain::{MessageId, Partition};
use chat4all_nats::{Stored, subject};
use chat4all_postgres::checkpoint;
use chat4all_projector::rebuild::Outcome;
use futures::StreamExt as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::scene::{LIVE, Rebuilding, SWAP, ask, config, tamper};
use crate::projector::stack::{How, Stack};
use crate::projector::story::{Story, conversation, user};
use crate::support::log::relaxed_node;

/// Messages per conversation.
const MESSAGES: u64 = 20;
/// Events per message: accepted, attempted, sent, delivered, read.
const STEPS: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; a measurement, run by hand"]
async fn a_rebuild_beside_copy() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let (events, batch) = (
        number("CHAT4ALL_EVENTS", 100_000),
        number("CHAT4ALL_BATCH", 5_000),
    );
    let workers = number("CHAT4ALL_WORKERS", 4);
    let stack = Stack::with(Box::pin(relaxed_node())).await;
    let conversations = events / (MESSAGES * STEPS + 1);
    fill(&stack, conversations).await;
    let began = Instant::now();
    let running = stack.project(&How::into(LIVE));
    let ends: u64 = stack.ends().await.iter().map(|end| end.sequence).sum();
    level(&stack, ends).await;
    println!("{ends} events; the projector needs {:.1?}", began.elapsed());

    let mut fast = config(&stack, SWAP);
    (fast.batch, fast.workers) = (batch as usize, workers as usize);
    let began = Instant::now();
    let mut rebuilding = Rebuilding::with(fast);
    let mut phase = None;
    while rebuilding.progress.changed().await.is_ok() {
        let now = rebuilding.progress.borrow_and_update().phase.clone();
        if phase.as_ref() != Some(&now) {
            println!("  {:.1?} {now:?}", began.elapsed());
            phase = Some(now);
        }
    }
    let outcome = rebuilding.ended().await.unwrap();
    let took = began.elapsed();
    let Outcome::Swapped(swapped) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(swapped.comparison.is_equal());
    running.stop().await;

    let copied = copy(&stack).await;
    println!(
        "batch {batch}, {workers} workers: {took:.1?} ({:.0} events/s), projectors waited {} ms; {} rows; COPY {copied:.1?}; {:.2}x",
        ends as f64 / took.as_secs_f64(),
        swapped.held.as_millis(),
        swapped.comparison.rows(),
        took.as_secs_f64() / copied.as_secs_f64()
    );
}

/// Waits until the live tables have everything, however long that is.
async fn level(stack: &Stack, ends: u64) {
    let pool = stack.pool(LIVE);
    loop {
        // Before the first migration there are no tables.
        let at = checkpoint::read(&pool).await.unwrap_or_default();
        if at.values().map(|at| at.sequence).sum::<u64>() == ends {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Copies of one conversation and one message's whole journey, under other ids.
async fn fill(stack: &Stack, conversations: u64) {
    let log = stack.log();
    Story::new(log).whole_journeys(0, 1).await;
    let (first, message) = (
        conversation(0),
        MessageId::derive(conversation(0), user(0), "0"),
    );
    let partition = log.partition_of(&first);
    let template = log
        .read(partition, 1, Instant::now() + Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(template.len() as u64, STEPS + 1);
    let copies = (1..=conversations).flat_map(|number| {
        let to = conversation(number);
        let partition = log.partition_of(&to);
        let of = |stored: &Stored, message_id: Uuid| {
            let replaced = |text: &str| {
                text.replace(&first.to_string(), &to.to_string())
                    .replace(&message.to_string(), &message_id.to_string())
            };
            let payload = std::str::from_utf8(&stored.payload).unwrap();
            (
                in_partition(&replaced(&stored.subject), partition),
                replaced(payload),
            )
        };
        let mut all = vec![of(&template[0], Uuid::nil())];
        for n in 0..MESSAGES {
            let message_id = Uuid::new_v5(&to.uuid(), &n.to_be_bytes());
            all.extend(template[1..].iter().map(|stored| of(stored, message_id)));
        }
        all
    });
    let js = log.jetstream();
    futures::stream::iter(copies)
        .map(async |(subject, payload)| js.publish(subject, payload.into()).await.unwrap())
        .buffered(1)
        .map(async |acknowledged| acknowledged.await.unwrap())
        .buffered(500)
        .for_each(async |_| {})
        .await;
}

fn in_partition(from: &str, partition: Partition) -> String {
    let (_, path) = subject::parse(from).unwrap();
    format!("chat.evt.{partition}.{path}")
}

/// How long the server needs to copy all rows into the same tables, empty, with everything that is on them.
async fn copy(stack: &Stack) -> Duration {
    let dir = std::env::temp_dir().join(Uuid::now_v7().to_string());
    let dir = dir.display();
    let tables: Vec<String> = ask(
        stack,
        "select array(select tablename::text from pg_tables where schemaname = 'chat4all'
                      and tablename <> '_sqlx_migrations' order by 1)",
    )
    .await;
    let (mut out, mut into) = (String::new(), String::new());
    for table in &tables {
        out.push_str(&format!(
            "copy {table} to '{dir}-{table}'; create table copied.{table} (like {table} including all);"
        ));
        into.push_str(&format!("copy copied.{table} from '{dir}-{table}';"));
    }
    let mut connection = stack.database(LIVE).connect_for_long().await.unwrap();
    let mut tell = async |statement: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap()
    };
    tell(format!("create schema copied; {out}")).await;
    let began = Instant::now();
    tell(into).await;
    let took = began.elapsed();
    for table in &tables {
        // They belong to the server's user; whoever runs this as another has to remove them.
        let _ = std::fs::remove_file(format!("{dir}-{table}"));
    }
    tamper(stack, "drop schema copied cascade").await;
    took
}
