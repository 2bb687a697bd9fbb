//! Two operators at once: it is done once.

use chat4all_projector::rebuild::{Outcome, Phase, Purpose};

use super::scene::{
    Rebuilding, SWAP, held_checkpoint, identity, let_go, only_live_is_left, tamper, with_history,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_rebuilds_at_once_do_it_once() {
    let (stack, running) = with_history(100, 5).await;
    let before = identity(&stack).await;
    let all: Vec<_> = (0..3).map(|_| Rebuilding::start(&stack, SWAP)).collect();
    let mut outcomes = Vec::new();
    for one in all {
        outcomes.push(one.ended().await.unwrap());
    }
    let swapped = outcomes
        .iter()
        .filter(|one| matches!(one, Outcome::Swapped(_)));
    assert_eq!(swapped.count(), 1, "{outcomes:?}");
    let done = outcomes
        .iter()
        .filter(|one| matches!(one, Outcome::DoneByAnother));
    assert_eq!(done.count(), 2, "{outcomes:?}");
    assert_ne!(identity(&stack).await, before);
    running.stop().await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_second_says_who_is_at_it_and_takes_over_when_the_first_gives_up() {
    let (stack, running) = with_history(100, 5).await;
    tamper(&stack, "update messages set content_text = 'never said'").await;
    let mut first = Rebuilding::start(&stack, SWAP);
    first.reaches(Phase::Folding).await;
    let mut second = Rebuilding::start(&stack, super::scene::SWAP_ANYWAY);
    let waiting = second
        .says(|now| matches!(now.phase, Phase::Waiting(Some(_))))
        .await;
    let Phase::Waiting(Some(holder)) = waiting.phase else {
        unreachable!("just looked")
    };
    assert_eq!(holder.name, "test");
    assert!(holder.backend_pid > 0);
    let outcome = first.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    // It was not done, so the second does it.
    let outcome = second.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    running.stop().await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn asked_to_stop_while_it_waits_for_its_turn_it_leaves_the_first_alone() {
    let (stack, running) = with_history(5, 2).await;
    let before = identity(&stack).await;
    // So that the first is still at it, whatever the second needs.
    let hand = held_checkpoint(&stack).await;
    let mut first = Rebuilding::start(&stack, SWAP);
    first.reaches(Phase::Comparing).await;
    let mut second = Rebuilding::start(&stack, SWAP);
    second
        .says(|now| matches!(now.phase, Phase::Waiting(_)))
        .await;
    second.stop.cancel();
    let outcome = second.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Stopped), "{outcome:?}");
    let_go(hand).await;
    let outcome = first.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_ne!(identity(&stack).await, before);
    running.stop().await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_wanted_to_compare_and_had_to_wait_compares_the_new_tables() {
    let (stack, running) = with_history(100, 5).await;
    let before = identity(&stack).await;
    let mut first = Rebuilding::start(&stack, SWAP);
    first.reaches(Phase::Folding).await;
    let mut second = Rebuilding::start(&stack, Purpose::Compare);
    second
        .says(|now| matches!(now.phase, Phase::Waiting(_)))
        .await;
    let outcome = first.ended().await.unwrap();
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    let after = identity(&stack).await;
    assert_ne!(after, before);
    let outcome = second.ended().await.unwrap();
    let Outcome::Compared(comparison) = outcome else {
        panic!("not compared: {outcome:?}")
    };
    assert!(comparison.is_equal(), "{comparison:?}");
    let compared = comparison.tables.iter().map(|table| table.rows);
    assert!(compared.sum::<u64>() > 100, "{comparison:?}");
    assert_eq!(identity(&stack).await, after, "it swapped nothing");
    running.stop().await;
    only_live_is_left(&stack).await;
}
