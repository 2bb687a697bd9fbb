//! Postgres hangs in the commit of the swap. Its answer is waited for only so long; then another connection is asked what became
//! of it, and while nobody can know, that is what is said.

use chat4all_projector::rebuild::{Error, Outcome, Phase};
use sqlx::PgConnection;

use super::scene::{
    LIVE, Rebuilding, SWAP, ask, identity, is_what_the_log_says, only_live_is_left, rebuild,
    schemas, tamper, the_next_one_does_it, with_history,
};
use crate::journeys::until;
use crate::projector::stack::Stack;

/// From now on the commit of a swap waits for whoever is returned, also when nobody waits for its answer any more.
async fn hanging_commit(stack: &Stack) -> PgConnection {
    // Renaming a schema writes a row, whose trigger waits until the transaction is committed.
    let hang = "
        create table public.renamed (at timestamptz not null default now());
        create function public.note() returns event_trigger language plpgsql as $$
        begin
            insert into public.renamed default values;
        end $$;
        create event trigger note on ddl_command_end when tag in ('ALTER SCHEMA')
        execute function public.note();
        create function public.hang() returns trigger language plpgsql as $$
        begin
            perform set_config('lock_timeout', '0', true);
            perform set_config('client_connection_check_interval', '0', true);
            perform pg_advisory_xact_lock(42);
            return null;
        end $$;
        create constraint trigger hang after insert on public.renamed deferrable initially deferred
        for each row execute function public.hang()";
    tamper(stack, hang).await;
    let mut hand = stack.database(LIVE).connect().await.unwrap();
    sqlx::query("select pg_advisory_lock(42)")
        .execute(&mut hand)
        .await
        .unwrap();
    hand
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_hangs_and_goes_through_unheard_is_a_swap() {
    let (stack, running) = with_history(5, 2).await;
    let (before, hand) = (identity(&stack).await, hanging_commit(&stack).await);
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    rebuilding.reaches(Phase::Asking).await;
    assert_eq!(identity(&stack).await, before);
    drop(hand);
    let outcome = rebuilding.ended().await.unwrap();
    let Outcome::Swapped(swapped) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(swapped.comparison.is_equal(), "{swapped:?}");
    assert!(swapped.left_behind.is_none(), "{swapped:?}");
    assert_ne!(identity(&stack).await, before);
    only_live_is_left(&stack).await;
    running.stop().await;
    is_what_the_log_says(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_hangs_and_fails_leaves_live_alone_and_the_next_one_does_it() {
    let (stack, running) = with_history(5, 2).await;
    let (before, hand) = (identity(&stack).await, hanging_commit(&stack).await);
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    rebuilding.reaches(Phase::Asking).await;
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where wait_event = 'advisory' and query = 'commit'";
    assert_eq!(ask::<i64>(&stack, end).await, 1);
    let error = rebuilding.ended().await.unwrap_err();
    let is_the_swap = matches!(error, Error::Postgres { doing: "swap", .. });
    assert!(is_the_swap, "{error:?}");
    assert_eq!(identity(&stack).await, before);
    only_live_is_left(&stack).await;

    drop(hand);
    the_next_one_does_it(&stack, running, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_a_commit_hangs_on_it_says_that_nobody_knows_and_the_next_one_waits_for_it() {
    let (stack, running) = with_history(5, 2).await;
    let (before, hand) = (identity(&stack).await, hanging_commit(&stack).await);
    let rebuilding = Rebuilding::start(&stack, SWAP);
    let error = rebuilding.ended().await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("whether it went through"), "{said}");
    // Nothing was taken away from a swap that is not over.
    assert_eq!(identity(&stack).await, before);
    assert_eq!(schemas(&stack).await, [LIVE, "chat4all_rebuild"]);

    let mut next = Rebuilding::start(&stack, SWAP);
    next.says(|now| matches!(now.phase, Phase::Waiting(Some(_))))
        .await;
    drop(hand);
    let now = async || identity(&stack).await;
    until("it is swapped after all", now, |now| *now != before).await;
    let outcome = next.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::DoneByAnother), "{outcome:?}");
    running.stop().await;
    is_what_the_log_says(&stack).await;
    // What the first one could not put away.
    assert_eq!(schemas(&stack).await, [LIVE, "chat4all_replaced"]);
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    only_live_is_left(&stack).await;
}
