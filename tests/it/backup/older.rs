//! The log and the read models, one of them older than the other.

use std::path::Path;
use std::process::Command;

use chat4all_cli::embedded::temp_dir;
use chat4all_projector::Error;

use super::stage::{backup, done, restore};
use crate::projector::stack::{How, Stack, assert_same};
use crate::projector::story::Story;
use crate::support::log::empty_node;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restored_to_an_older_day_catches_up_by_itself() {
    let mut stack = Stack::start().await;
    let data = stack.postgres.dir().join("data");
    let older = stack.postgres.dir().join("older");
    let story = Story::new(stack.log());
    let how = How::into("chat4all");
    story.whole_journeys(1, 3).await;
    stack.fold(&how).await;
    stack.postgres.stop().await.unwrap();
    copy(&data, &older);

    stack.postgres.restart().await.unwrap();
    // What had begun that day goes on, and there is more.
    story.whole_journeys(2, 3).await;
    story.meet(7, Some("Anna")).await.unwrap();
    let newer = stack.fold(&how).await;

    stack.postgres.stop().await.unwrap();
    std::fs::remove_dir_all(std::fs::canonicalize(&data).unwrap()).unwrap();
    copy(&older, &data);
    stack.postgres.restart().await.unwrap();
    let restored = stack.dump("chat4all").await;
    assert!(restored["messages"].len() < newer["messages"].len());
    let caught_up = stack.fold(&how).await;
    assert_same(&caught_up, &newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_ahead_of_a_restored_log_are_refused_and_made_anew() {
    let place = temp_dir().unwrap();
    let dir = place.path().join("b");
    let mut stack = Stack::start().await;
    let story = Story::new(stack.log());
    let how = How::into("chat4all");
    story.whole_journeys(1, 2).await;
    done(&mut backup(&stack.node.nats.url(), &dir));
    let as_of_the_backup = stack.fold(&How::into("as_of_the_backup")).await;
    story.whole_journeys(1_000, 2).await;
    let ahead = stack.fold(&how).await;

    let new = empty_node().await;
    done(&mut restore(&new.nats.url(), &dir));
    stack.node = new.opened().await;
    let mut running = stack.project(&how);
    let Err(Error::Ahead(why)) = running.ended().await else {
        panic!("a projector that is ahead of the log must not go on");
    };
    assert!(why.to_string().contains("the reader of EVT-"), "{why}");
    assert_same(&stack.dump("chat4all").await, &ahead);

    // The log goes on, past every checkpoint: by the numbers alone all would seem well.
    let story = Story::new(stack.log());
    story.whole_journeys(5_000, 4).await;
    let mut running = stack.project(&how);
    let Err(Error::AnotherLog(why)) = running.ended().await else {
        panic!("a projector whose log has become another must not go on");
    };
    assert!(
        why.contains("is not the one that was folded there"),
        "{why}"
    );
    assert_same(&stack.dump("chat4all").await, &ahead);

    // As the runbook says.
    let pool = stack.pool("chat4all");
    sqlx::query("drop schema chat4all cascade")
        .execute(&pool)
        .await
        .unwrap();
    let anew = stack.fold(&how).await;
    let fresh = stack.fold(&How::into("fresh")).await;
    assert_same(&anew, &fresh);
    assert!(anew["messages"].len() > as_of_the_backup["messages"].len());
}

/// With owners and permissions, which Postgres insists on.
fn copy(from: &Path, to: &Path) {
    let from = std::fs::canonicalize(from).unwrap();
    let copied = Command::new("cp").arg("-a").args([&from, to]).status();
    assert!(copied.unwrap().success());
}
