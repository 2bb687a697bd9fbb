//! Everything that can go away goes away, and the tables are what a fresh fold of the log gives.

use std::time::Duration;

use chat4all_domain::{Partition, Timestamp};
use chat4all_postgres::checkpoint::{self, Run};
use chat4all_postgres::{Projected, migrate, projected};
use chat4all_projector::Error;
use futures::StreamExt;
use sqlx::Connection;
use tokio::time::{Instant, sleep, timeout};

use super::stack::{How, PATIENCE, Stack, assert_same};
use super::story::Story;

/// Sixteen writers side by side, each with conversations of its own: 6 events per conversation and message.
async fn write(story: &Story, conversations: std::ops::Range<u64>, messages: u64) {
    futures::stream::iter(conversations)
        .for_each_concurrent(16, |number| story.whole_journeys(number, messages))
        .await;
}

#[tokio::test]
async fn a_projector_that_is_killed_at_any_point_and_a_database_too_lose_and_double_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut stack = Stack::start().await;
    let story = Story::new(stack.log());
    write(&story, 0..100, 5).await;
    let how = How {
        batch: 20,
        ..How::into("chat4all")
    };
    let mut kills_on_the_way = 0;
    let mut rounds = 0;
    while kills_on_the_way < 12 {
        rounds += 1;
        assert!(
            rounds < 60,
            "only {kills_on_the_way} of {rounds} kills were on the way"
        );
        let before = reached(&stack).await;
        let running = stack.project(&how);
        moved_on(&stack, before).await;
        sleep(Duration::from_micros(rng.u64(..40_000))).await;
        if rounds % 4 == 0 {
            stack.postgres.kill().await;
            running.kill().await;
            stack.postgres.restart().await.unwrap();
        } else {
            running.kill().await;
        }
        let left = total(&stack).await - reached(&stack).await;
        if left > 0 {
            kills_on_the_way += 1;
        }
        if left < 1_000 {
            write(&story, rounds * 1_000..rounds * 1_000 + 50, 5).await;
        }
    }
    println!("{kills_on_the_way} kills on the way, of {rounds}");
    let survived = stack.fold(&how).await;
    assert_same(&survived, &stack.fold(&How::into("fresh")).await);
    assert!(survived["projector_dead_letter"].is_empty());
}

async fn total(stack: &Stack) -> u64 {
    stack.ends().await.iter().map(|end| end.sequence).sum()
}

/// Waits until a projector has folded something after `before`.
async fn moved_on(stack: &Stack, before: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = reached(stack).await;
        if now > before {
            return;
        }
        assert!(Instant::now() < deadline, "still at {now}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn reached(stack: &Stack) -> u64 {
    // Before the first migration there are no tables.
    let pool = stack.pool("chat4all");
    let checkpoints = checkpoint::read(&pool).await.unwrap_or_default();
    checkpoints.values().map(|at| at.sequence).sum()
}

#[tokio::test]
async fn of_two_projectors_on_one_partition_the_slower_is_refused_and_no_row_is_doubled() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let how = How {
        batch: 10,
        ..How::into("chat4all")
    };
    let one = stack.project(&how);
    let other = stack.project(&how);
    write(&story, 0..60, 4).await;
    stack.level("chat4all").await;
    one.stop().await;
    other.stop().await;
    let shared = stack.dump("chat4all").await;
    assert_same(&shared, &stack.fold(&How::into("fresh")).await);
}

#[tokio::test]
async fn a_checkpoint_moves_only_from_where_the_writer_believes_it_to_be() {
    let stack = Stack::start().await;
    let database = stack.database("chat4all");
    migrate::migrate(&database).await.unwrap();
    // Again changes nothing.
    migrate::migrate(&database).await.unwrap();
    let partition = Partition::new(3).unwrap();
    let run = |first, last| Run {
        partition,
        first,
        last,
        recorded_at: Timestamp::from_unix_ms(1_000),
    };
    let mut faster = database.connect().await.unwrap();
    let mut slower = database.connect().await.unwrap();
    checkpoint::ensure(&mut faster, &[partition]).await.unwrap();
    let mut tx = faster.begin().await.unwrap();
    assert!(checkpoint::advance(&mut tx, &[run(1, 5)]).await.unwrap());
    let mut waiting = slower.begin().await.unwrap();
    {
        let own = [run(1, 3)];
        let moved = checkpoint::advance(&mut waiting, &own);
        tokio::pin!(moved);
        let too_early = timeout(Duration::from_millis(200), &mut moved).await;
        assert!(too_early.is_err(), "it waits for the first one's commit");
        tx.commit().await.unwrap();
        assert!(!moved.await.unwrap(), "the slower one is refused");
    }
    // Even a refused one holds the checkpoint until its transaction ends.
    waiting.rollback().await.unwrap();
    for (first, last, expected) in [(7, 9, false), (5, 9, false), (6, 9, true)] {
        let moved = checkpoint::advance(&mut faster, &[run(first, last)]).await;
        assert_eq!(moved.unwrap(), expected, "from {first}");
    }
}

#[tokio::test]
async fn a_database_that_stops_and_one_that_hangs_cost_time_and_nothing_else() {
    let mut stack = Stack::start().await;
    let story = Story::new(stack.log());
    let how = How::into("chat4all");
    let running = stack.project(&how);
    write(&story, 0..20, 2).await;
    stack.level("chat4all").await;

    stack.postgres.stop().await.unwrap();
    let outage = sleep(Duration::from_secs(5));
    tokio::join!(outage, write(&story, 20..60, 2));
    stack.postgres.restart().await.unwrap();
    stack.level("chat4all").await;

    stack.postgres.suspend().await;
    let outage = sleep(Duration::from_secs(5));
    tokio::join!(outage, write(&story, 60..100, 2));
    stack.postgres.resume();
    stack.level("chat4all").await;

    running.stop().await;
    let survived = stack.dump("chat4all").await;
    assert_same(&survived, &stack.fold(&How::into("fresh")).await);
}

#[tokio::test]
async fn a_broker_that_is_killed_costs_time_and_nothing_else() {
    let mut stack = Stack::start().await;
    let story = Story::new(stack.log());
    let running = stack.project(&How::into("chat4all"));
    for round in 0..3 {
        write(&story, round * 20..round * 20 + 20, 2).await;
        stack.node.nats.kill().await;
        stack.node.nats.restart().await.unwrap();
    }
    write(&story, 100..120, 2).await;
    stack.level("chat4all").await;
    running.stop().await;
    let survived = stack.dump("chat4all").await;
    assert_same(&survived, &stack.fold(&How::into("fresh")).await);
}

#[tokio::test]
async fn partitions_that_come_and_go_are_folded_while_they_are_owned() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    write(&story, 0..40, 1).await;
    let running = stack.project(&How::into("chat4all"));
    stack.level("chat4all").await;
    let kept = Partition::new(0).unwrap();
    running.owned.send_replace([kept].into());
    write(&story, 40..120, 1).await;
    let ends = stack.ends().await;
    stack.projected_up_to("chat4all", ends[0]).await;
    let all: Vec<Partition> = stack.log().partitions().all().collect();
    running.owned.send_replace(all.into_iter().collect());
    stack.level("chat4all").await;
    running.stop().await;
    let shared = stack.dump("chat4all").await;
    assert_same(&shared, &stack.fold(&How::into("fresh")).await);
}

#[tokio::test]
async fn a_checkpoint_ahead_of_the_log_is_refused_loudly() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    story.whole_journeys(1, 1).await;
    let before = stack.fold(&How::into("chat4all")).await;
    let pool = stack.pool("chat4all");
    sqlx::query("update projector_checkpoint set sequence = sequence + 1000 where partition = 5")
        .execute(&pool)
        .await
        .unwrap();
    story.whole_journeys(2, 1).await;
    let mut running = stack.project(&How::into("chat4all"));
    let Err(Error::Ahead(why)) = running.ended().await else {
        panic!("a projector that is ahead must not go on");
    };
    let end = stack.ends().await[5];
    let known = before["projector_checkpoint"].len() as u64;
    assert_eq!(known, 8);
    assert!(
        why.to_string()
            .starts_with("the reader of EVT-05 stands at 10"),
        "{why}, which ends at {end}"
    );
    let after = stack.dump("chat4all").await;
    assert_eq!(after["messages"], before["messages"], "nothing was folded");
}

#[tokio::test]
async fn waiting_for_a_position_ends_when_it_is_there_and_says_how_far_it_is_when_not() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let running = stack.project(&How::into("chat4all"));
    story.whole_journeys(1, 1).await;
    stack.level("chat4all").await;
    running.stop().await;
    let projected = Projected::new(stack.pool("chat4all"));
    let ends = stack.ends().await;
    let there = *ends.iter().max_by_key(|end| end.sequence).unwrap();
    let soon = || Instant::now() + Duration::from_millis(300);
    projected.up_to(there, soon()).await.unwrap();
    let mut next = there;
    next.sequence += 1;
    // A hundred waiters, of whom most give up early: those who look for all must hand over.
    let waiting = (0..100).map(|n| {
        let deadline = Instant::now() + Duration::from_millis(5 * n);
        projected.up_to(next, deadline)
    });
    for outcome in futures::future::join_all(waiting).await {
        let Err(projected::Error::NotYet { wanted, reached }) = outcome else {
            panic!("it cannot be there yet: {outcome:?}");
        };
        assert_eq!(wanted, next);
        assert!(reached == there || reached.sequence == 0, "{reached}");
    }
}

#[tokio::test]
async fn ten_thousand_events_are_folded() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    write(&story, 0..100, 20).await;
    let events = total(&stack).await;
    assert!(events >= 10_000, "{events}");
    let began = Instant::now();
    let folded = stack.fold(&How::into("chat4all")).await;
    let took = began.elapsed();
    println!(
        "{events} events in {took:.1?}: {:.0}/s",
        events as f64 / took.as_secs_f64()
    );
    assert_eq!(folded["messages"].len(), 2_000);
    assert_eq!(folded["delivery_events"].len(), 8_000);
    let read = folded["deliveries"]
        .iter()
        .filter(|row| row.contains("\"status\": \"READ\""));
    assert_eq!(read.count(), 2_000);
}
