//! Finds a projector in the middle of its work.

use std::collections::BTreeMap;
use std::time::Duration;

use chat4all_cli::embedded::until_stopped;
use chat4all_nats::Log;
use futures::future::join_all;
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::log;
use super::up::send;

const PATIENCE: Duration = Duration::from_secs(60);

/// Freezes the projector of that pid (`SIGSTOP`) at a moment when the log has events that are not in its checkpoints, and
/// says how many. The log was read before it was frozen and the checkpoints after: all of them had been there, and what it
/// was doing about them was not done. When it is level it goes on until the next look.
pub async fn freeze(env: &BTreeMap<String, String>, pid: u32) -> u64 {
    let mut layout = log::layout(1);
    layout.max_bytes = 0;
    let log = log::opened(&env["CHAT4ALL_NATS__URL"], "observer", &layout).await;
    let mut postgres = PgConnection::connect(&env["CHAT4ALL_POSTGRES__URL"])
        .await
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ends = ends(&log, deadline).await;
        send(pid, Signal::STOP);
        until_stopped(&[pid]).await;
        let reached = checkpoints(&mut postgres).await;
        let behind = |(partition, end): (&i16, &u64)| {
            let reached = reached.get(partition).copied().unwrap_or(0);
            end.saturating_sub(reached)
        };
        let behind: u64 = ends.iter().map(behind).sum();
        if behind > 0 {
            return behind;
        }
        send(pid, Signal::CONT);
        assert!(Instant::now() < deadline, "the projector is always level");
        sleep(Duration::from_micros(fastrand::u64(..3_000))).await;
    }
}

/// Where each partition ends.
async fn ends(log: &Log, deadline: Instant) -> BTreeMap<i16, u64> {
    let end = async |partition| {
        let last = log.last_sequence(partition, deadline).await.unwrap();
        (i16::from(partition.number()), last)
    };
    let ends = join_all(log.partitions().all().map(end)).await;
    ends.into_iter().collect()
}

/// How far the read models are in each partition.
async fn checkpoints(postgres: &mut PgConnection) -> BTreeMap<i16, u64> {
    let rows: Vec<(i16, i64)> =
        sqlx::query_as("select partition, sequence from chat4all.projector_checkpoint")
            .fetch_all(postgres)
            .await
            .unwrap();
    let rows = rows.into_iter();
    rows.map(|(partition, sequence)| (partition, u64::try_from(sequence).unwrap()))
        .collect()
}
