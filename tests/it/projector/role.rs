//! `chat4all projector` on another log than its read models are of: it says so, and does not end as if all were well.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use chat4all_cli::embedded::{Port, chat4all_program, temp_dir};
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::stack::{How, PATIENCE, Stack, assert_same};
use super::story::Story;
use crate::support::log::one_node;
use crate::support::up::{Up, send};

/// A role as a process; killed at the end if it still runs.
struct Role {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Role {
    /// A projector of this log, into these read models.
    fn start(stack: &Stack) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let listen = format!("127.0.0.1:{}", Port::Any.pick().unwrap());
        let mut command = Command::new(chat4all_program().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHAT4ALL_") {
                command.env_remove(name);
            }
        }
        command
            .arg("projector")
            .env("CHAT4ALL_NATS__URL", stack.node.nats.url())
            .env("CHAT4ALL_NATS__MONITOR_URL", stack.node.nats.monitor_url())
            .env("CHAT4ALL_POSTGRES__URL", stack.postgres.url())
            .env("CHAT4ALL_HTTP__LISTEN", listen)
            .env("CHAT4ALL_IDS__SECRET", "0".repeat(64))
            .env("CHAT4ALL_AUTH__HS256_SECRET", "x".repeat(64))
            .stdin(Stdio::null())
            .stderr(log.reopen().unwrap());
        let child = command.spawn().unwrap();
        Self { child, log }
    }

    /// Waits until it has ended by itself: its exit code, and what it has logged.
    async fn ended(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait().unwrap();
            let said = std::fs::read_to_string(self.log.path()).unwrap();
            if let Some(status) = status {
                return (status.code(), said);
            }
            let late = begun.elapsed() > PATIENCE;
            assert!(!late, "it still runs after {PATIENCE:?}: {said}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_projector_whose_read_models_are_of_another_log_says_so_and_exits_with_1() {
    let mut stack = Stack::start().await;
    let story = Story::new(stack.log());
    story.whole_journeys(1, 1).await;
    let folded = stack.fold(&How::into("chat4all")).await;

    // Another broker, and nothing on its log yet: a checkpoint is beyond its end.
    stack.node = one_node().await;
    let (code, said) = Role::start(&stack).ended().await;
    assert_eq!(code, Some(1), "{said}");
    let ahead = "the read models are ahead of the log: the reader of EVT-";
    assert!(said.contains(ahead), "{said}");
    assert_same(&stack.dump("chat4all").await, &folded);

    // By now it has more than was folded; the same events, and each a second later than the one that was folded there.
    let story = Story::new(stack.log());
    story.later();
    story.whole_journeys(1, 2).await;
    let (code, said) = Role::start(&stack).ended().await;
    assert_eq!(code, Some(1), "{said}");
    let another = "the read models are of another log: the event at ";
    assert!(said.contains(another), "{said}");
    assert_same(&stack.dump("chat4all").await, &folded);
}

#[tokio::test(flavor = "multi_thread")]
async fn up_tells_that_its_projector_is_ahead_of_the_log_and_reads_go_on() {
    let dir = temp_dir().unwrap();
    let mut command = Up::command(dir.path());
    command.arg("--split").stderr(Stdio::piped());
    let mut up = block_in_place(|| Up::start(dir.path(), command));
    let (teller, told) = mpsc::channel();
    let errors = BufReader::new(up.child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in errors.lines() {
            // Nobody listens any more when the test is over.
            let _ = teller.send(line.unwrap());
        }
    });

    let variables = up.variables();
    let url = &variables["CHAT4ALL_POSTGRES__URL"];
    let mut postgres = PgConnection::connect(url).await.unwrap();
    let ahead = "update chat4all.projector_checkpoint set sequence = 1000000";
    let moved = sqlx::query(ahead).execute(&mut postgres).await.unwrap();
    assert!(moved.rows_affected() > 0);
    // It looks at its checkpoints when it begins. If it has something to fold just now, it ends without this.
    if let Some(projector) = up.process("projector") {
        send(projector, Signal::KILL);
    }

    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        match block_in_place(|| told.recv_timeout(left)) {
            Ok(line) if line.contains("projector") && line.contains("(exit status: 1)") => break,
            Ok(line) => seen.push(line),
            Err(_) => panic!("it says only {seen:#?}"),
        }
    }
    let log = std::fs::read_to_string(dir.path().join("log/projector.log")).unwrap();
    let ahead = "the read models are ahead of the log: the reader of EVT-";
    assert!(log.contains(ahead), "{log}");
    let query = format!("{}/readyz", variables["CHAT4ALL_QUERY_URL"]);
    let ready = reqwest::get(query).await.unwrap();
    assert_eq!(ready.status(), 200, "reads go on");
}
