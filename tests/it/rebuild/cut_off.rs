//! A rebuild that is stopped, killed or refused leaves the live tables as they are.

use std::time::Duration;

use chat4all_projector::rebuild::{Error, FoldError, Outcome, Phase};
use chat4all_service::config::Poison;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::process::{ended, folded, run, start};
use super::scene::{
    LIVE, Meanwhile, Rebuilding, SWAP, config, identity, is_what_the_log_says, only_live_is_left,
    rebuild, schemas, tamper, with_history,
};
use crate::projector::stack::{How, PATIENCE, Stack, assert_same};
use crate::support::seed;
use crate::support::up::send;

/// Waits until a process has folded more than `events`.
async fn has_folded(stack: &Stack, events: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = folded(stack).await;
        if now.is_some_and(|now| now > events) {
            return;
        }
        assert!(Instant::now() < deadline, "folded {now:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_in_the_middle_it_leaves_live_alone_and_the_next_one_does_it() {
    let (stack, running) = with_history(150, 5).await;
    let (before, reading) = (identity(&stack).await, Meanwhile::reading(&stack));
    let child = start(&stack, &["--workers", "1", "--batch", "20"]);
    has_folded(&stack, 500).await;
    send(child.id().unwrap(), Signal::KILL);
    let killed = ended(child).await;
    assert_eq!(killed.code, None, "it was faster: {}", killed.output);
    assert_eq!(identity(&stack).await, before);
    assert_eq!(schemas(&stack).await, [LIVE, "chat4all_rebuild"]);

    let again = run(&stack, &["--json"]).await;
    assert_eq!(again.code, Some(0), "{} {}", again.output, again.errors);
    let lines = again.json();
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["outcome"], &last["equal"]),
        (&"swapped".into(), &true.into())
    );
    let told = lines.iter().rev().find(|line| line["phase"].is_string());
    let told = told.expect("it says how it goes");
    assert_eq!(
        (&told["events"], &told["of"]),
        (&3_900.into(), &3_900.into())
    );
    assert_eq!(told["partitions"].as_array().map(Vec::len), Some(8));
    let rate = told["events_per_second"].as_u64();
    assert!(rate.is_some_and(|rate| rate > 0), "{told}");
    assert_ne!(identity(&stack).await, before);
    for reader in reading {
        assert!(reader.end().await > 0);
    }
    running.stop().await;
    is_what_the_log_says(&stack).await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_any_point_live_is_whole_either_way() {
    let mut rng = fastrand::Rng::with_seed(seed("rebuild killed at any point"));
    let (stack, running) = with_history(40, 3).await;
    let (writing, reading) = (
        Meanwhile::writing(&stack, 10_000),
        Meanwhile::reading(&stack),
    );
    // How long it takes when nobody kills it, in this company.
    let began = Instant::now();
    assert_eq!(run(&stack, &[]).await.code, Some(0));
    let whole = began.elapsed();
    let mut kills = 0;
    for _ in 0..12 {
        let child = start(&stack, &[]);
        sleep(whole.mul_f64(rng.f64())).await;
        send(child.id().unwrap(), Signal::KILL);
        kills += u32::from(ended(child).await.code.is_none());
        assert!(schemas(&stack).await.contains(&LIVE.to_owned()));
    }
    assert!(kills > 3, "only {kills} were on the way");
    writing.end().await;
    stack.level(LIVE).await;
    for reader in reading {
        reader.end().await;
    }
    assert_eq!(run(&stack, &[]).await.code, Some(0));
    running.stop().await;
    is_what_the_log_says(&stack).await;
    only_live_is_left(&stack).await;
}

#[tokio::test]
async fn asked_to_stop_it_clears_away_what_it_has_made() {
    let (stack, running) = with_history(60, 4).await;
    let before = identity(&stack).await;
    let child = start(&stack, &["--workers", "1", "--batch", "10"]);
    has_folded(&stack, 100).await;
    send(child.id().unwrap(), Signal::INT);
    let stopped = ended(child).await;
    assert_eq!(
        stopped.code,
        Some(130),
        "{} {}",
        stopped.output,
        stopped.errors
    );
    assert!(
        stopped.output.contains("the live tables stay as they are"),
        "{}",
        stopped.output
    );
    assert_eq!(identity(&stack).await, before);
    only_live_is_left(&stack).await;
    running.stop().await;
}

#[tokio::test]
async fn the_operator_reads_table_and_key_and_nothing_personal() {
    let (stack, running) = with_history(5, 2).await;
    let said: uuid::Uuid =
        super::scene::ask(&stack, "select message_id from messages limit 1").await;
    tamper(
        &stack,
        &format!("update messages set content_text = 'never said' where message_id = '{said}'"),
    )
    .await;
    let refused = run(&stack, &[]).await;
    assert_eq!(
        refused.code,
        Some(3),
        "{} {}",
        refused.output,
        refused.errors
    );
    let line = refused
        .output
        .lines()
        .find(|line| line.contains("messages (conversation_id="));
    let line = line.unwrap_or_else(|| panic!("no row is named: {}", refused.output));
    assert!(
        line.contains(&format!("message_id={said}): other content_text")),
        "{line}"
    );
    assert!(
        refused.output.contains("--accept-differences"),
        "{}",
        refused.output
    );
    assert!(!refused.output.contains("never said") && !refused.output.contains("message 0"));

    let compared = run(&stack, &["--compare-only", "--json"]).await;
    assert_eq!(compared.code, Some(3), "{}", compared.errors);
    let last = compared.json().pop().unwrap();
    assert_eq!(
        (&last["outcome"], &last["equal"]),
        (&"compared".into(), &false.into())
    );

    let swapped = run(&stack, &["--accept-differences"]).await;
    assert_eq!(
        swapped.code,
        Some(0),
        "{} {}",
        swapped.output,
        swapped.errors
    );
    assert!(
        swapped.output.contains("the new tables are live"),
        "{}",
        swapped.output
    );
    assert_eq!(run(&stack, &["--dry-run"]).await.code, Some(0));
    running.stop().await;
    is_what_the_log_says(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_operators_at_once_and_one_of_them_is_told_who_is_at_it() {
    let (stack, running) = with_history(60, 4).await;
    let first = start(&stack, &["--workers", "1", "--batch", "10"]);
    let pid = first.id().unwrap();
    has_folded(&stack, 100).await;
    let second = start(&stack, &[]);
    let (first, second) = tokio::join!(ended(first), ended(second));
    assert_eq!(
        (first.code, second.code),
        (Some(0), Some(0)),
        "{} {}",
        first.errors,
        second.errors
    );
    assert!(
        first.output.contains("the new tables are live"),
        "{}",
        first.output
    );
    assert!(
        second
            .output
            .contains("somebody else has just rebuilt them"),
        "{}",
        second.output
    );
    let told = format!("chat4all rebuild, pid {pid} from 127.0.0.1");
    assert!(second.errors.contains(&told), "{}", second.errors);
    running.stop().await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_postgres_killed_it_fails_and_the_next_one_does_it() {
    let (mut stack, running) = with_history(60, 4).await;
    let mut slow = config(&stack, SWAP);
    slow.batch = 10;
    slow.workers = 1;
    let mut rebuilding = Rebuilding::with(slow);
    rebuilding
        .says(|now| now.phase == Phase::Folding && now.folded() > 100)
        .await;
    stack.postgres.kill().await;
    rebuilding.ended().await.unwrap_err();
    stack.postgres.restart().await.unwrap();
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    stack.level(LIVE).await;
    running.stop().await;
    is_what_the_log_says(&stack).await;
    only_live_is_left(&stack).await;
}

#[tokio::test]
async fn what_cannot_be_folded_is_parked_again_or_ends_it() {
    let (stack, running) = with_history(5, 2).await;
    let js = stack.log().jetstream();
    let bad = js
        .publish("chat.evt.03.conversation.nobody", "{not json".into())
        .await
        .unwrap();
    bad.await.unwrap();
    stack.level(LIVE).await;
    let before = stack.dump(LIVE).await;
    assert_eq!(before["projector_dead_letter"].len(), 1);
    let outcome = rebuild(&stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_same(&stack.dump(LIVE).await, &before);

    let halting = chat4all_projector::rebuild::Config {
        poison: Poison::Halt,
        ..config(&stack, SWAP)
    };
    let error = Rebuilding::with(halting).ended().await.unwrap_err();
    assert!(
        matches!(error, Error::Fold(FoldError::Poison { .. })),
        "{error:?}"
    );
    only_live_is_left(&stack).await;
    running.stop().await;
    assert_same(&stack.fold(&How::into(LIVE)).await, &before);
}
