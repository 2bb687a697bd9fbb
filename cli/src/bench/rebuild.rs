//! Rebuilding: the whole log folded into new tables, compared and swapped, against the time that Postgres itself needs to
//! `COPY` the same rows into tables with the same indexes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::process::Command;
use tokio::time::sleep;

use super::aim::Aim;
use super::deliver::two_accounts;
use super::flow::Flow;
use super::plan::Plan;
use super::post::Post;
use super::progress;
use super::report::Report;
use super::stack::Stack;
use crate::embedded::chat4all_program;

/// How long what was accepted may take to be READ.
const PATIENCE: Duration = Duration::from_secs(300);
/// What a chunk of copied rows has, at most.
const CHUNK_BYTES: usize = 64 * 1024;

/// The aim for a log of so many events.
const MILLION: u64 = 1_000_000;
/// How long messages are sent between two looks at how many events they have made.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
/// Events a second that deliveries make, for the estimate.
const FILL_PER_S: u64 = 2_500;
/// Events a second that a rebuild folds, for the estimate.
const FOLD_PER_S: u64 = 20_000;

pub(super) fn takes(plan: &Plan) -> Duration {
    let events = plan.rebuild_events;
    let rebuild = Duration::from_secs(2 + events / FOLD_PER_S);
    let copy = Duration::from_secs(1 + events / 2 / FOLD_PER_S);
    let fill = Duration::from_secs(20 + events / FILL_PER_S);
    fill + copy * 2 + (rebuild + copy) * plan.rounds
}

/// # Errors
/// The stack does not start, a rebuild ended with something else than new tables that equal the old ones, or Postgres
/// refused.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    progress(format_args!(
        "rebuild: delivering messages until the log has {} envelopes",
        plan.rebuild_events
    ));
    let (stack, recipients) = two_accounts().await?;
    report.synced("the stack", stack.sync().await?);
    let log = stack.log().await?;
    let flow = Flow::new(&stack, Post::prepare(&stack, recipients)?).await?;
    while stack.envelopes(&log).await? < plan.rebuild_events {
        flow.run(&stack, BETWEEN_LOOKS).await?;
    }
    flow.all_handed_over(&stack).await?;
    until_quiet(&stack).await?;
    stack.catch_up(&log).await?;
    let events = stack.envelopes(&log).await?;
    progress(format_args!("rebuild: {events} envelopes, against COPY"));
    let mut connection = stack.database().await?;
    let rows = copied_out(&mut connection).await?;
    let mut rebuilt = Vec::new();
    // The first warms up, and does not count.
    copy_in(&mut connection, &rows).await?;
    let mut copied = vec![copy_in(&mut connection, &rows).await?];
    for _ in 0..plan.rounds {
        rebuilt.push(rebuild(&stack).await?);
        copied.push(copy_in(&mut connection, &rows).await?);
    }
    // To the mean of the copies right before and right after.
    let around = copied
        .windows(2)
        .map(|pair| f64::midpoint(pair[0], pair[1]));
    let ratio: Vec<_> = rebuilt.iter().zip(around).map(|(a, b)| a / b).collect();
    let rate: Vec<_> = rebuilt.iter().map(|time| events as f64 / time).collect();
    let of = format!("of a log of {events} envelopes");
    let what = format!("(d) COPY of the rows {of} into tables like them");
    report.add(what, "s", &copied);
    let what = format!("(d) `chat4all rebuild` {of}, compared and swapped");
    if events >= MILLION {
        let each: Vec<_> = rebuilt
            .iter()
            .map(|time| time * MILLION as f64 / events as f64)
            .collect();
        report.add(what, "s", &rebuilt);
        let what = "(d) the same for each million";
        report.aim(what, "s", &each, Aim::AtMost(90.0));
    } else {
        report.add(what, "s", &rebuilt);
        let why = "a log of a million takes minutes: --rebuild-events 1000000";
        report.left_out("rebuild: 1 M events in 90 s", why);
    }
    report.add("(d) envelopes rebuilt", "/s", &rate);
    report.aim("(d) rebuild / COPY", "×", &ratio, Aim::AtMost(2.5));
    stack.stop().await
}

/// Waits until every message is READ: then nothing is written any more.
async fn until_quiet(stack: &Stack) -> anyhow::Result<()> {
    let (begun, mut connection) = (Instant::now(), stack.database().await?);
    let query = "select count(*) from chat4all.deliveries where status <> 'READ'";
    loop {
        let waiting: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        if waiting == 0 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{waiting} messages are not READ"
        );
        sleep(Duration::from_millis(100)).await;
    }
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
