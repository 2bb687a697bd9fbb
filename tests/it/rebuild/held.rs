//! What holds a rebuild up, and what a rebuild may hold up.

use std::time::Duration;

use chat4all_projector::rebuild::{Differences, Error, Outcome, Phase, Purpose, Replaced};
use sqlx::Connection as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::scene::{
    LIVE, Rebuilding, SWAP, ask, held_checkpoint, identity, is_what_the_log_says, let_go,
    only_live_is_left, rebuild, schemas, tamper, the_next_one_does_it, with_history, write,
};
use crate::projector::stack::{PATIENCE, Stack};
use crate::projector::story::Story;

const KEEP: Purpose = Purpose::Swap {
    differences: Differences::Refuse,
    replaced: Replaced::Keep,
};

/// Waits until what `statement` asks for is above `more`.
async fn grows_above(stack: &Stack, statement: &str, more: i64) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now: i64 = ask(stack, statement).await;
        if now > more {
            return now;
        }
        assert!(Instant::now() < deadline, "{statement}: still {now}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_somebody_holds_the_checkpoints_it_tries_again_and_then_goes_on() {
    let (stack, running) = with_history(20, 2).await;
    let before = identity(&stack).await;
    // As a projector in the middle of a transaction does, and does not end it.
    let mut projector = stack.database(LIVE).connect().await.unwrap();
    let mut tx = projector.begin().await.unwrap();
    sqlx::raw_sql("update projector_checkpoint set sequence = sequence where partition = 3")
        .execute(&mut *tx)
        .await
        .unwrap();
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    rebuilding.reaches(Phase::Comparing).await;
    // Each try to lock is a statement of its own, by when it began.
    let tries = "select coalesce(max((extract(epoch from query_start) * 1000)::bigint), 0) from pg_stat_activity
                 where wait_event_type = 'Lock' and query like 'lock table%'";
    let first = grows_above(&stack, tries, 0).await;
    grows_above(&stack, tries, first).await;
    assert_eq!(identity(&stack).await, before);
    tx.commit().await.unwrap();
    let outcome = rebuilding.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_ne!(identity(&stack).await, before);
    running.stop().await;
    is_what_the_log_says(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_checkpoints_are_held_for_all_its_tries_it_gives_up_and_the_next_one_does_it() {
    let (stack, running) = with_history(5, 2).await;
    let before = identity(&stack).await;
    let hand = held_checkpoint(&stack).await;
    let error = Rebuilding::start(&stack, SWAP).ended().await.unwrap_err();
    assert!(matches!(error, Error::Restless(_)), "{error:?}");
    let said = error.to_string();
    let page = "the live read models do not hold still";
    assert!(said.starts_with(page), "{said}");
    assert_eq!(identity(&stack).await, before);
    only_live_is_left(&stack).await;
    let_go(hand).await;
    the_next_one_does_it(&stack, running, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn asked_to_stop_while_it_waits_for_the_checkpoints_it_clears_away() {
    let (stack, running) = with_history(5, 2).await;
    let before = identity(&stack).await;
    let hand = held_checkpoint(&stack).await;
    let rebuilding = Rebuilding::start(&stack, SWAP);
    let waiting = "select count(*) from pg_stat_activity
                   where wait_event_type = 'Lock' and query like 'lock table%'";
    grows_above(&stack, waiting, 0).await;
    rebuilding.stop.cancel();
    let outcome = rebuilding.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}");
    assert_eq!(identity(&stack).await, before);
    only_live_is_left(&stack).await;
    let_go(hand).await;
    the_next_one_does_it(&stack, running, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_right_after_the_swap_it_leaves_the_kept_tables_where_they_are_to_be() {
    let (stack, running) = with_history(5, 2).await;
    let before = identity(&stack).await;
    // Whatever is renamed once the swap is committed waits for the test.
    tamper(
        &stack,
        &format!(
            "create function public.hold() returns event_trigger language plpgsql as $$
             begin
                 if to_regnamespace('chat4all')::oid::bigint <> {before} then
                     perform pg_advisory_xact_lock(42);
                 end if;
             end $$;
             create event trigger hold on ddl_command_start when tag in ('ALTER SCHEMA')
             execute function public.hold()"
        ),
    )
    .await;
    let mut hand = stack.database(LIVE).connect().await.unwrap();
    sqlx::query("select pg_advisory_lock(42)")
        .execute(&mut hand)
        .await
        .unwrap();
    let rebuilding = Rebuilding::start(&stack, KEEP);
    let waiting = "select count(*) from pg_stat_activity
                   where wait_event = 'advisory' and query like '%alter schema%'";
    grows_above(&stack, waiting, 0).await;
    drop(rebuilding);

    assert_ne!(identity(&stack).await, before);
    assert_eq!(schemas(&stack).await, [LIVE, "chat4all_old"]);
    tamper(&stack, "drop event trigger hold").await;
    drop(hand);
    // The next one, which clears away, does not take them for something to be cleared away.
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    let kept: i64 = ask(&stack, "select count(*) from chat4all_old.messages").await;
    assert_eq!(kept, 10);
    let of: i64 = ask(
        &stack,
        "select oid::bigint from pg_namespace where nspname = 'chat4all_old'",
    )
    .await;
    assert_eq!(of, before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_comparison_under_the_lock_that_takes_too_long_is_given_up_and_it_says_so() {
    let (stack, running) = with_history(5, 2).await;
    let mut first = stack.database(LIVE).connect().await.unwrap();
    let mut second = stack.database(LIVE).connect().await.unwrap();
    // Readers' marks cannot be read: the whole comparison waits for the first, and the one under the lock for the second,
    // which comes in between.
    let hold = "lock table readers in access exclusive mode";
    let mut tx = first.begin().await.unwrap();
    sqlx::raw_sql(hold).execute(&mut *tx).await.unwrap();
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    let compares = "select count(*) from pg_stat_activity
                    where wait_event_type = 'Lock' and query like '%full join%'";
    grows_above(&stack, compares, 0).await;
    let mut in_between = JoinSet::new();
    in_between.spawn(async move {
        let mut tx = second.begin().await.unwrap();
        sqlx::raw_sql(hold).execute(&mut *tx).await.unwrap();
        std::mem::forget(tx);
        second
    });
    let queues = format!(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query = '{hold}'"
    );
    grows_above(&stack, &queues, 0).await;
    tx.commit().await.unwrap();
    rebuilding.reaches(Phase::ClearingAway).await;
    // Ends with its connection.
    drop(in_between.join_next().await.unwrap().unwrap());
    let Outcome::Swapped(swapped) = rebuilding.ended().await.unwrap() else {
        panic!("it was not swapped")
    };
    assert!(!swapped.compared_to_the_end && swapped.comparison.is_equal());
    running.stop().await;
    is_what_the_log_says(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn projectors_do_not_wait_for_a_rebuild_that_cannot_fold_the_rest_in_time() {
    let (stack, running) = with_history(5, 2).await;
    let mut live = stack.database(LIVE).connect().await.unwrap();
    let mut shadow = stack.database(LIVE).connect().await.unwrap();
    // The projector is in the middle of a transaction when its checkpoints are to be held: there will be a rest to fold.
    let mut projecting = live.begin().await.unwrap();
    sqlx::raw_sql("lock table messages in access exclusive mode")
        .execute(&mut *projecting)
        .await
        .unwrap();
    write(&Story::new(stack.log()), 50..51, 1).await;
    let inserts = "select count(*) from pg_stat_activity
                   where wait_event_type = 'Lock' and query like '%insert into messages%'";
    grows_above(&stack, inserts, 0).await;
    let rebuilding = Rebuilding::start(&stack, SWAP);
    let locks = "select count(*) from pg_stat_activity
                 where wait_event_type = 'Lock' and query like 'lock table%checkpoint%'";
    grows_above(&stack, locks, 0).await;
    // And the rest cannot be folded.
    let mut folding = shadow.begin().await.unwrap();
    sqlx::raw_sql("lock table chat4all_rebuild.messages in access exclusive mode")
        .execute(&mut *folding)
        .await
        .unwrap();
    projecting.commit().await.unwrap();
    let folds = "select count(*) from pg_stat_activity
                 where wait_event_type = 'Lock' and query like 'copy messages%'";
    grows_above(&stack, folds, 0).await;
    write(&Story::new(stack.log()), 51..52, 1).await;
    // Folded into the live tables while the rest still waits.
    stack.level(LIVE).await;
    assert_eq!(ask::<i64>(&stack, folds).await, 1);
    folding.commit().await.unwrap();
    let outcome = rebuilding.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    running.stop().await;
    is_what_the_log_says(&stack).await;
}
