//! The broker is killed under a rebuild: while it folds it waits for the broker, while projectors would have to wait it does not.

use chat4all_projector::rebuild::{Error, FoldError, Outcome, Phase};

use crate::projector::stack::PATIENCE;

use super::scene::{
    LIVE, Rebuilding, SWAP, config, held_checkpoint, identity, is_what_the_log_says, let_go,
    only_live_is_left, the_next_one_does_it, with_history,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_the_broker_killed_while_it_folds_it_goes_on_when_the_broker_is_back() {
    let (mut stack, running) = with_history(60, 4).await;
    let before = identity(&stack).await;
    let mut slow = config(&stack, SWAP);
    slow.batch = 10;
    slow.workers = 1;
    let mut rebuilding = Rebuilding::with(slow);
    rebuilding
        .says(|now| now.phase == Phase::Folding && now.folded() > 100)
        .await;
    stack.node.nats.kill().await;
    let at = rebuilding.progress.borrow().clone();
    assert_eq!(at.phase, Phase::Folding, "it was faster");
    assert_eq!(identity(&stack).await, before);
    stack.node.nats.restart().await.unwrap();
    let outcome = rebuilding.ended().await.unwrap();
    let Outcome::Swapped(swapped) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(swapped.comparison.is_equal(), "{swapped:?}");
    assert_ne!(identity(&stack).await, before);
    stack.level(LIVE).await;
    running.stop().await;
    is_what_the_log_says(&stack).await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_the_broker_away_for_more_than_a_minute_it_fails_and_the_next_one_does_it() {
    let (mut stack, running) = with_history(60, 4).await;
    let before = identity(&stack).await;
    let mut slow = config(&stack, SWAP);
    slow.batch = 10;
    slow.workers = 1;
    let mut rebuilding = Rebuilding::with(slow);
    rebuilding
        .says(|now| now.phase == Phase::Folding && now.folded() > 100)
        .await;
    stack.node.nats.kill().await;
    let error = rebuilding.ended_within(3 * PATIENCE).await.unwrap_err();
    assert!(
        matches!(error, Error::Fold(FoldError::Read(_))),
        "{error:?}"
    );
    assert_eq!(identity(&stack).await, before);
    only_live_is_left(&stack).await;
    stack.node.nats.restart().await.unwrap();
    stack.level(LIVE).await;
    the_next_one_does_it(&stack, running, before).await;
    only_live_is_left(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_the_broker_away_when_it_is_to_be_level_it_fails_and_the_next_one_does_it() {
    let (mut stack, running) = with_history(20, 2).await;
    let before = identity(&stack).await;
    // It cannot be level before the broker is away: somebody holds a checkpoint.
    let hand = held_checkpoint(&stack).await;
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    rebuilding.reaches(Phase::Comparing).await;
    stack.node.nats.kill().await;
    let error = rebuilding.ended().await.unwrap_err();
    assert!(matches!(error, Error::End(_)), "{error:?}");
    assert_eq!(identity(&stack).await, before);
    only_live_is_left(&stack).await;
    let_go(hand).await;
    stack.node.nats.restart().await.unwrap();
    stack.level(LIVE).await;
    the_next_one_does_it(&stack, running, before).await;
    only_live_is_left(&stack).await;
}
