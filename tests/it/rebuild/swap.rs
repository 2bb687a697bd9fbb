//! The swap under traffic: readers, projectors and commands do not notice.

use std::sync::atomic::Ordering;

use chat4all_postgres::rebuild::Schemas;
use chat4all_projector::rebuild::{Differences, Outcome, Purpose, Replaced};
use sqlx::Connection as _;

use super::scene::{
    LIVE, Meanwhile, Rebuilding, SWAP, ask, identity, is_what_the_log_says, only_live_is_left,
    rebuild, schemas, tamper, with_history, write,
};
use crate::projector::stack::How;
use crate::projector::story::Story;
use crate::support::seed;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuild_under_traffic_equals_live_and_nobody_notices() {
    seed("rebuild under traffic");
    let (stack, one) = with_history(150, 5).await;
    let other = stack.project(&How {
        batch: 20,
        ..How::into(LIVE)
    });
    let reading = Meanwhile::reading(&stack);
    let writing = Meanwhile::writing(&stack, 10_000);
    let mut tables = identity(&stack).await;
    for round in 0..5 {
        let (before, read) = (
            writing.rounds.load(Ordering::SeqCst),
            reading[0].rounds.load(Ordering::SeqCst),
        );
        let outcome = rebuild(&stack, SWAP).await;
        let Outcome::Swapped(swapped) = outcome else {
            panic!("round {round}: {outcome:?}")
        };
        assert!(swapped.comparison.is_equal() && swapped.compared_to_the_end);
        assert!(
            swapped.comparison.rows() > 3_000,
            "{:?}",
            swapped.comparison
        );
        assert!(swapped.left_behind.is_none());
        println!(
            "round {round}: projectors waited {} ms",
            swapped.held.as_millis()
        );
        let now = identity(&stack).await;
        assert_ne!(now, tables, "the same tables as before");
        tables = now;
        // It was under traffic.
        assert!(writing.rounds.load(Ordering::SeqCst) > before);
        assert!(reading[0].rounds.load(Ordering::SeqCst) > read);
    }
    let written = writing.end().await;
    stack.level(LIVE).await;
    let mut reads = 0;
    for reader in reading {
        reads += reader.end().await;
    }
    println!("{written} rounds of commands, {reads} reads");
    one.stop().await;
    other.stop().await;
    is_what_the_log_says(&stack).await;
    only_live_is_left(&stack).await;
}

#[tokio::test]
async fn a_projector_that_waits_at_the_swap_goes_on_in_the_new_tables() {
    let (stack, running) = with_history(20, 2).await;
    // Its transaction is open when the swap wants the checkpoints, and the next one waits behind the swap.
    for batch in [1, 500] {
        let how = How {
            batch,
            ..How::into(LIVE)
        };
        let another = stack.project(&how);
        let story = Story::new(stack.log());
        let first = 5_000 + batch as u64;
        let (outcome, ()) =
            tokio::join!(rebuild(&stack, SWAP), write(&story, first..first + 40, 3));
        assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
        stack.level(LIVE).await;
        another.stop().await;
    }
    running.stop().await;
    is_what_the_log_says(&stack).await;
}

#[tokio::test]
async fn a_prepared_statement_reads_the_new_tables_after_the_swap() {
    let (stack, running) = with_history(5, 2).await;
    let mut reader = stack.database(LIVE).connect().await.unwrap();
    let mut oid = async || {
        sqlx::query_scalar::<_, i64>("select tableoid::bigint from messages limit 1")
            .fetch_one(&mut reader)
            .await
            .unwrap()
    };
    // Often enough for the server to settle on one plan.
    let mut before = 0;
    for _ in 0..10 {
        before = oid().await;
    }
    let keep = Purpose::Swap {
        differences: Differences::Refuse,
        replaced: Replaced::Keep,
    };
    let outcome = rebuild(&stack, keep).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_ne!(
        oid().await,
        before,
        "it still reads the tables that were replaced"
    );
    // What was kept is there, stands still, and is in nobody's way except the next one who wants to keep.
    assert_eq!(schemas(&stack).await, [LIVE, "chat4all_old"]);
    assert_eq!(
        ask::<i64>(&stack, "select count(*) from chat4all_old.messages").await,
        10
    );
    let again = Rebuilding::start(&stack, keep).ended().await.unwrap_err();
    assert!(
        again.to_string().contains("chat4all_old is there already"),
        "{again}"
    );
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_eq!(schemas(&stack).await, [LIVE, "chat4all_old"]);
    running.stop().await;
}

#[tokio::test]
async fn a_reader_in_the_middle_of_a_transaction_may_finish_it() {
    let (stack, running) = with_history(5, 2).await;
    let mut reader = stack.database(LIVE).connect().await.unwrap();
    let mut tx = reader.begin().await.unwrap();
    let count = "select count(*) from messages";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut *tx).await.unwrap();
    // It holds a lock on a table that is to be dropped: the swap does not wait for it, dropping does.
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    rebuilding
        .reaches(chat4all_projector::rebuild::Phase::ClearingAway)
        .await;
    let after: i64 = sqlx::query_scalar(count).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(after, before);
    tx.commit().await.unwrap();
    let outcome = rebuilding.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    only_live_is_left(&stack).await;
    running.stop().await;
}

#[tokio::test]
async fn whoever_may_read_the_live_tables_may_read_the_new_ones() {
    let (stack, running) = with_history(5, 2).await;
    tamper(
        &stack,
        "create role reporter login;
         grant usage on schema chat4all to reporter;
         grant select on all tables in schema chat4all to reporter",
    )
    .await;
    let url = stack.postgres.url().replace("chat4all@", "reporter@");
    let reporter = chat4all_postgres::Config::new(&url, LIVE.parse().unwrap(), "reporter").unwrap();
    let mut reporter = reporter.connect().await.unwrap();
    let mut count = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from messages")
            .fetch_one(&mut reporter)
            .await
            .unwrap()
    };
    let before = count().await;
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_eq!(count().await, before);
    running.stop().await;
}

#[tokio::test]
async fn the_new_tables_have_every_index_of_the_live_ones() {
    let (stack, running) = with_history(5, 2).await;
    let live = Schemas::of(stack.database(LIVE).schema()).live;
    let indexes = format!(
        "select array(select indexdef from pg_indexes where schemaname = '{live}' order by indexname)"
    );
    let constraints = format!(
        "select array(select conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
                      where connamespace = '{live}'::regnamespace order by conname)"
    );
    let before: (Vec<String>, Vec<String>) =
        (ask(&stack, &indexes).await, ask(&stack, &constraints).await);
    assert!(before.0.len() > 10 && before.1.len() > 10);
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_eq!(
        (ask(&stack, &indexes).await, ask(&stack, &constraints).await),
        before
    );
    running.stop().await;
}
