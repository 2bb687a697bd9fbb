//! The log and the read models, one of them older than the other.

use std::path::Path;
use std::process::{Command, Stdio};

use chat4all_cli::embedded::{Port, temp_dir};
use rustix::process::Signal;
use tokio::process::Child;

use super::stage::{backup, chat4all, done, restore};
use crate::projector::stack::{Dump, How, Stack, assert_same};
use crate::projector::story::Story;
use crate::rebuild::process::{ended, run};
use crate::rebuild::scene::LIVE;
use crate::support::log::empty_node;
use crate::support::up::send;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_restored_to_an_older_day_catches_up_by_itself() {
    let mut stack = Stack::start().await;
    let data = stack.postgres.dir().join("data");
    let older = stack.postgres.dir().join("older");
    let story = Story::new(stack.log());
    let how = How::into(LIVE);
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
    let restored = stack.dump(LIVE).await;
    assert!(restored["messages"].len() < newer["messages"].len());
    // As the page says.
    provisioned(&stack);
    assert_same(&projected(&stack).await, &newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_ahead_of_a_restored_log_end_the_projector_and_are_made_anew() {
    let restored = Restored::start().await;
    let stack = &restored.stack;
    let words = ["are ahead of the log: the reader of EVT-"];
    ends_by_itself(stack, &words).await;

    made_anew(stack).await;
    // Nothing has come since the backup.
    assert_same(&stack.dump(LIVE).await, &restored.as_of_the_backup);
    goes_on(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_of_a_log_that_was_restored_and_has_gone_on_are_made_anew() {
    let restored = Restored::start().await;
    let stack = &restored.stack;
    // Past every checkpoint: by the numbers alone all would seem well.
    let story = Story::new(stack.log());
    story.whole_journeys(5_000, 4).await;
    let words = [
        "the read models are of another log: the event at ",
        "is not the one that was folded there",
    ];
    ends_by_itself(stack, &words).await;

    made_anew(stack).await;
    let anew = goes_on(stack).await;
    let then = &restored.as_of_the_backup["messages"];
    assert!(anew["messages"].len() > then.len());
}

/// A log that was restored from a backup, read models that are newer, and no role yet.
struct Restored {
    stack: Stack,
    as_of_the_backup: Dump,
}

impl Restored {
    async fn start() -> Self {
        let place = temp_dir().unwrap();
        let dir = place.path().join("b");
        let mut stack = Stack::start().await;
        let story = Story::new(stack.log());
        story.whole_journeys(1, 2).await;
        done(&mut backup(&stack.node.nats.url(), &dir));
        let as_of_the_backup = stack.fold(&How::into("as_of_the_backup")).await;
        story.whole_journeys(1_000, 2).await;
        stack.fold(&How::into(LIVE)).await;

        let new = empty_node().await;
        done(&mut restore(&new.nats.url(), &dir));
        stack.node = new.opened().await;
        provisioned(&stack);
        Self {
            stack,
            as_of_the_backup,
        }
    }
}

/// A projector that must not go on says so and ends, and leaves the tables as they are.
async fn ends_by_itself(stack: &Stack, words: &[&str]) {
    let ahead = stack.dump(LIVE).await;
    let said = ended(projector(stack)).await;
    assert_eq!(said.code, Some(1), "{}", said.errors);
    for words in words {
        assert!(said.errors.contains(words), "{}", said.errors);
    }
    assert_same(&stack.dump(LIVE).await, &ahead);
}

/// As the page says.
async fn made_anew(stack: &Stack) {
    let said = run(stack, &["--accept-differences"]).await;
    assert_eq!(said.code, Some(0), "{} {}", said.output, said.errors);
    // It says what the read models have and that log does not.
    for words in [
        "differs      messages: ",
        "only in the live table; nothing on the log says so",
        "the new tables are live",
    ] {
        assert!(said.output.contains(words), "{}", said.output);
    }
}

/// The projector is started again, and everything on the log comes into the tables, also what is new.
async fn goes_on(stack: &Stack) -> Dump {
    let story = Story::new(stack.log());
    story.whole_journeys(9_000, 2).await;
    let folded = projected(stack).await;
    assert_same(&folded, &stack.fold(&How::into("fresh")).await);
    folded
}

/// The projector is started, has everything that is on the log, and is stopped.
async fn projected(stack: &Stack) -> Dump {
    let running = projector(stack);
    stack.level(LIVE).await;
    send(running.id().unwrap(), Signal::TERM);
    let said = ended(running).await;
    assert_eq!(said.code, Some(0), "{}", said.errors);
    stack.dump(LIVE).await
}

fn provisioned(stack: &Stack) {
    let mut provision = chat4all(&stack.node.nats.url(), &["provision"]);
    done(provision.env("CHAT4ALL_POSTGRES__URL", stack.postgres.url()));
}

/// The role as its operator has it: a process.
fn projector(stack: &Stack) -> Child {
    let listen = format!("127.0.0.1:{}", Port::Any.pick().unwrap());
    let mut command = chat4all(&stack.node.nats.url(), &["projector"]);
    command
        .env("CHAT4ALL_NATS__MONITOR_URL", stack.node.nats.monitor_url())
        .env("CHAT4ALL_POSTGRES__URL", stack.postgres.url())
        .env("CHAT4ALL_HTTP__LISTEN", listen)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).spawn().unwrap()
}

/// With owners and permissions, which Postgres insists on.
fn copy(from: &Path, to: &Path) {
    let from = std::fs::canonicalize(from).unwrap();
    let copied = Command::new("cp").arg("-a").args([&from, to]).status();
    assert!(copied.unwrap().success());
}
