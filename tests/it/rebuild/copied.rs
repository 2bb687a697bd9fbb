//! What a rebuild folds its own way, `COPY` and rows at hand from batch to batch, is what the projector's way gives.

use chat4all_domain::{Partition, Position};
use chat4all_projector::rebuild::{Outcome, Purpose};
use proptest::collection::vec;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tokio::time::Instant;

use super::scene::{LIVE, Rebuilding, config, with_history, write};
use crate::projector::histories::scene;
use crate::projector::stack::{How, PATIENCE, Stack};
use crate::projector::story::Story;

/// In batches of every such size, it is what is live.
async fn equals_live(stack: &Stack, batches: &[usize]) {
    for batch in batches {
        let rebuild = chat4all_projector::rebuild::Config {
            batch: *batch,
            ..config(stack, Purpose::Compare)
        };
        let outcome = Rebuilding::with(rebuild).ended().await.unwrap();
        let Outcome::Compared(comparison) = outcome else {
            panic!("batches of {batch}: {outcome:?}")
        };
        assert!(
            comparison.is_equal() && comparison.rows() > 100,
            "batches of {batch}: {comparison:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_history_is_rebuilt_as_it_was_folded_in_batches_of_any_size() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let mut runner = TestRunner::default();
    let history = (vec(scene(), 60..120), 2..40_usize);
    let mut batches = vec![1, 1_000];
    for round in 0..3 {
        let (scenes, batch) = history.new_tree(&mut runner).unwrap().current();
        println!("batches of {batch} for {scenes:?}");
        story.play(10 * round, &scenes).await;
        batches.push(batch);
    }
    let running = stack.project(&How::into(LIVE));
    stack.level(LIVE).await;
    equals_live(&stack, &batches).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_long_stretch_is_rebuilt_as_it_was_folded() {
    // More than a thousand events in one partition: those come through a feed.
    let (stack, running) = with_history(1, 250).await;
    equals_live(&stack, &[300, 5_000]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_database_refuses_is_parked_as_the_projector_parked_it() {
    let (stack, running) = with_history(8, 2).await;
    // Every event once more: messages and conversations that are there already, and everything that refers to them.
    for partition in stack.log().partitions().all() {
        again(&stack, partition).await;
    }
    write(&Story::new(stack.log()), 100..104, 2).await;
    stack.level(LIVE).await;
    let parked = stack.dump(LIVE).await["projector_dead_letter"].len();
    assert_eq!(parked, 16, "each message that was accepted twice");
    equals_live(&stack, &[1, 3, 7, 50, 1_000]).await;
    running.stop().await;
}

/// Puts what a partition has on the log a second time.
async fn again(stack: &Stack, partition: Partition) {
    let (log, js) = (stack.log(), stack.log().jetstream());
    let deadline = Instant::now() + PATIENCE;
    let stored = log.read(partition, 1, deadline).await.unwrap();
    let mut last = Position::new(partition, 0);
    for event in stored {
        let acknowledged = js.publish(event.subject, event.payload).await.unwrap();
        last.sequence = acknowledged.await.unwrap().sequence;
    }
    println!("up to {last}");
}
