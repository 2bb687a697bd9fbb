//! Finds a projector in the middle of its work.

use std::collections::BTreeMap;
use std::time::Duration;

use chat4all_cli::embedded::until_stopped;
use chat4all_domain::Partition;
use chat4all_nats::Log;
use futures::future::join_all;
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::log;
use super::up::send;

const PATIENCE: Duration = Duration::from_secs(60);

/// A look at both ends of the projector's work.
struct Observer {
    log: Log,
    postgres: PgConnection,
    deadline: Instant,
}

impl Observer {
    async fn of(env: &BTreeMap<String, String>) -> Self {
        let mut layout = log::layout(1);
        layout.max_bytes = 0;
        let log = log::opened(&env["CHAT4ALL_NATS__URL"], "observer", &layout).await;
        let postgres = PgConnection::connect(&env["CHAT4ALL_POSTGRES__URL"]).await;
        Self {
            log,
            postgres: postgres.unwrap(),
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Where each partition of the log ends.
    async fn ends(&self) -> BTreeMap<i16, u64> {
        let end = async |partition| {
            let last = self.log.last_sequence(partition, self.deadline).await;
            (i16::from(Partition::number(partition)), last.unwrap())
        };
        let ends = join_all(self.log.partitions().all().map(end)).await;
        ends.into_iter().collect()
    }

    /// How many events up to `ends` are not in the read models.
    async fn missing(&mut self, ends: &BTreeMap<i16, u64>) -> u64 {
        const QUERY: &str = "select partition, sequence from chat4all.projector_checkpoint";
        let rows = sqlx::query_as(QUERY).fetch_all(&mut self.postgres).await;
        let reached: BTreeMap<i16, i64> = rows.unwrap().into_iter().collect();
        let missing = |(partition, end): (&i16, &u64)| {
            let reached = reached.get(partition).copied().unwrap_or(0);
            end.saturating_sub(u64::try_from(reached).unwrap())
        };
        ends.iter().map(missing).sum()
    }
}

/// Freezes the projector of that pid (`SIGSTOP`) at a moment when the log has events that are not in its checkpoints, and
/// says how many. The log was read before it was frozen and the checkpoints after: all of them had been there, and what it
/// was doing about them was not done. When it is level it goes on until the next look.
pub async fn freeze(env: &BTreeMap<String, String>, pid: u32) -> u64 {
    let mut observer = Observer::of(env).await;
    loop {
        let ends = observer.ends().await;
        send(pid, Signal::STOP);
        until_stopped(&[pid]).await;
        let missing = observer.missing(&ends).await;
        if missing > 0 {
            return missing;
        }
        send(pid, Signal::CONT);
        let waits = Instant::now() < observer.deadline;
        assert!(waits, "the projector has nothing to do");
        sleep(Duration::from_micros(fastrand::u64(..3_000))).await;
    }
}

/// Waits until everything that is on the log now is in the read models.
pub async fn level(env: &BTreeMap<String, String>) {
    let mut observer = Observer::of(env).await;
    let ends = observer.ends().await;
    loop {
        let missing = observer.missing(&ends).await;
        if missing == 0 {
            return;
        }
        let waits = Instant::now() < observer.deadline;
        assert!(waits, "{missing} events are still not projected");
        sleep(Duration::from_millis(20)).await;
    }
}
