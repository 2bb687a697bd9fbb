//! Rebuilding: the whole log folded into new tables, compared and swapped, against the time that Postgres itself needs to
//! `COPY` the same rows into tables with the same indexes.

use std::process::Stdio;
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::process::Command;

use super::report::Report;
use super::stack::Stack;
use super::{Plan, progress};
use crate::embedded::chat4all_program;

/// What a chunk of copied rows has, at most.
const CHUNK_BYTES: usize = 64 * 1024;

/// Measures with whatever is on the stack's log.
///
/// # Errors
/// A rebuild ended with something else than new tables that equal the old ones, or Postgres refused.
pub(super) async fn measure(stack: &Stack, plan: Plan, report: &mut Report) -> anyhow::Result<()> {
    let log = stack.log().await?;
    stack.catch_up(&log).await?;
    let mut events = 0;
    for partition in log.partitions().all() {
        events += log.stream(partition).get_info().await?.state.last_sequence;
    }
    progress(format_args!("rebuild: {events} events, against COPY"));
    let mut connection = stack.database().await?;
    let rows = copied_out(&mut connection).await?;
    let (mut rebuilt, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        copied.push(copy_in(&mut connection, &rows).await?);
        rebuilt.push(rebuild(stack).await?);
    }
    let ratio: Vec<_> = rebuilt.iter().zip(&copied).map(|(a, b)| a / b).collect();
    let rate: Vec<_> = rebuilt.iter().map(|time| events as f64 / time).collect();
    report.add("(d) COPY of the rows into tables like them", "s", &copied);
    report.add(
        "(d) `chat4all rebuild`, compared and swapped",
        "s",
        &rebuilt,
    );
    report.add("(d) events rebuilt", "/s", &rate);
    report.aim("(d) rebuild / COPY", "×", &ratio, "≤ 2.5");
    Ok(())
}

/// Seconds of a rebuild, as an operator has it.
async fn rebuild(stack: &Stack) -> anyhow::Result<f64> {
    let mut command = Command::new(chat4all_program()?);
    command.arg("rebuild").envs(stack.variables());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let begun = Instant::now();
    let output = command.output().await?;
    ensure!(
        output.status.success(),
        "the rebuild failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(begun.elapsed().as_secs_f64())
}

/// Every table with its rows, as `COPY` gives them.
async fn copied_out(connection: &mut PgConnection) -> anyhow::Result<Vec<(String, Vec<Bytes>)>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select tablename::text from pg_tables where schemaname = 'chat4all' and tablename <> '_sqlx_migrations' order by 1",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut all = Vec::new();
    for table in tables {
        let statement = format!("copy chat4all.{table} to stdout (format binary)");
        let rows = connection.copy_out_raw(&statement).await?;
        all.push((table, rows.try_collect().await?));
    }
    Ok(all)
}

/// Seconds until they are all in new tables, which are dropped again.
async fn copy_in(
    connection: &mut PgConnection,
    tables: &[(String, Vec<Bytes>)],
) -> anyhow::Result<f64> {
    let mut made = String::from("drop schema if exists copied cascade; create schema copied;");
    for (table, _) in tables {
        made += &format!("create table copied.{table} (like chat4all.{table} including all);");
    }
    sqlx::raw_sql(AssertSqlSafe(made))
        .execute(&mut *connection)
        .await?;
    let begun = Instant::now();
    for (table, rows) in tables {
        let statement = format!("copy copied.{table} from stdin (format binary)");
        let mut copy = connection.copy_in_raw(&statement).await?;
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        for row in rows {
            chunk.extend_from_slice(row);
            if chunk.len() >= CHUNK_BYTES {
                copy.send(std::mem::take(&mut chunk)).await?;
            }
        }
        copy.send(chunk).await?;
        copy.finish().await?;
    }
    let took = begun.elapsed().as_secs_f64();
    sqlx::raw_sql("drop schema copied cascade")
        .execute(&mut *connection)
        .await?;
    Ok(took)
}
