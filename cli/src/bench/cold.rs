//! Making Postgres forget what it has read: by starting it again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_postgres::read::Reads;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::stack::Stack;

/// How long it may take to be back.
const RESTART: Duration = Duration::from_secs(60);
/// How long what readiness has found holds, and a little.
const CHECK_HOLDS: Duration = Duration::from_millis(1_100);

/// Stops Postgres as its operator does; `up` starts it again. Returns when the query API and `reads` have a connection once more.
///
/// # Errors
/// It does not come back.
pub(super) async fn restart(stack: &Stack, reads: &Reads) -> anyhow::Result<()> {
    let mut connection = stack.database().await?;
    let postmaster = "select split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int";
    let before: i32 = sqlx::query_scalar(postmaster)
        .fetch_one(&mut connection)
        .await?;
    drop(connection);
    let pid = Pid::from_raw(before).context("postmaster.pid holds no process id")?;
    ensure!(
        stack.processes().contains(&before.unsigned_abs()),
        "Postgres is not a process of this stack"
    );
    kill_process(pid, Signal::INT).context("cannot stop Postgres")?;
    let begun = Instant::now();
    loop {
        let again = async {
            let mut connection = stack.database().await?;
            let now: i32 = sqlx::query_scalar(postmaster)
                .fetch_one(&mut connection)
                .await?;
            // A check holds for a second, and the one that counts is made with a connection to the new server.
            sleep(CHECK_HOLDS).await;
            let ready = format!("{}/readyz", stack.variable("CHAT4ALL_QUERY_URL")?);
            let ready = stack.client().get(ready).send().await?.status();
            reads.answers().await?;
            anyhow::Ok(now != before && ready.is_success())
        };
        if again.await.is_ok_and(|again| again) {
            return Ok(());
        }
        ensure!(begun.elapsed() < RESTART, "Postgres does not come back");
        sleep(Duration::from_millis(50)).await;
    }
}
