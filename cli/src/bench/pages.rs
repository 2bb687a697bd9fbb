//! A page of 50 messages at any place of a conversation with 10,000 and with 1,000,000, over REST, against the same statements.
//!
//! The statements are those of the query API, run by the same code over a pool with the same settings, without HTTP, token
//! and JSON. Cold means the first page after a restart of Postgres, when connections are there again: its own buffers are
//! empty, the kernel's page cache is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_domain::{Partition, Position, UserId};
use chat4all_postgres::read::{
    Range, Reader, Reads, conversations, deliveries, marks, messages, participants,
};
use futures::try_join;

use super::aim::Aim;
use super::cold::restart;
use super::load::{Operation, Run, open};
use super::plan::Plan;
use super::progress;
use super::report::Report;
use super::rows::{self, Full};
use super::stack::Stack;
use super::system::System;
use crate::roles::database;
use crate::up::DEVELOPER;

/// The small conversation and the large one.
const MESSAGES: [usize; 2] = [10_000, 1_000_000];
/// Messages of a page.
const PAGE: usize = 50;
/// Pages a second, open loop.
const RATE: f64 = 50.0;
/// How much longer than Postgres itself a read waits for an answer, as in the query API.
const READ_MARGIN: Duration = Duration::from_millis(500);
/// Rows a second that are loaded, for the estimate.
const LOAD_PER_S: usize = 20_000;

pub(super) fn takes(plan: &Plan) -> Duration {
    let rows: usize = MESSAGES.iter().map(|count| plan.scaled(*count)).sum();
    let load = Duration::from_secs((10 + rows / LOAD_PER_S) as u64);
    load + plan.runs(6 * plan.rounds) + Duration::from_secs(16) * plan.rounds
}

/// Pages of one conversation over REST, at random places.
struct Pages {
    client: reqwest::Client,
    url: String,
    authorization: String,
    full: Full,
}

impl Operation for Pages {
    async fn once(&self, _: u64, _: Instant) -> anyhow::Result<()> {
        let after = Position {
            partition: partition(&self.full)?,
            sequence: somewhere(&self.full),
        };
        let request = self
            .client
            .get(format!("{}?first={PAGE}&after={after}", self.url));
        let request = request.header("authorization", &self.authorization);
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status == 200, "{status}: {text}");
        let messages = text.matches(r#""message_id":"#).count();
        ensure!(messages == PAGE, "a page has {messages} messages");
        Ok(())
    }
}

/// The same by the statements alone.
struct Statements {
    reads: Reads,
    reader: Reader,
    full: Full,
}

impl Operation for Statements {
    async fn once(&self, _: u64, _: Instant) -> anyhow::Result<()> {
        let (reads, reader) = (&self.reads, self.reader);
        let id = [self.full.conversation];
        let found = conversations::by_id(reads, reader, &id).await?;
        ensure!(found.len() == 1, "the conversation is not there");
        let range = Range {
            after: Some(somewhere(&self.full)),
            before: None,
            size: PAGE,
            from_end: false,
        };
        let pages = messages::pages(reads, reader, &id, range).await?;
        let page = pages.into_values().next().unwrap_or_default();
        let messages = page.items.len();
        ensure!(messages == PAGE, "a page has {messages} messages");
        let keys = page.items.iter().map(|m| (m.conversation, m.id));
        let keys: Vec<_> = keys.collect();
        // What a page's items ask for goes out side by side.
        let (tallies, _, _) = try_join!(
            deliveries::tallies(reads, &keys),
            marks::of_conversations(reads, reader, &id),
            participants::of_conversations(reads, reader, &id),
        )?;
        ensure!(tallies.len() == PAGE, "not every message has a delivery");
        Ok(())
    }
}

/// The cursor before a page at a random place.
fn somewhere(full: &Full) -> u64 {
    let room = full.messages.saturating_sub(PAGE) as u64;
    full.before.unsigned_abs() + fastrand::u64(0..=room)
}

fn partition(full: &Full) -> anyhow::Result<Partition> {
    let partition = u8::try_from(full.partition).ok().and_then(Partition::new);
    partition.context("a partition that cannot be")
}

/// What was measured of one conversation, a value a round (warm SQL: two, around that of REST), in milliseconds.
#[derive(Default)]
struct Times {
    rest: Percentiles,
    sql: Percentiles,
    rest_cold: Vec<f64>,
    sql_cold: Vec<f64>,
}

#[derive(Default)]
struct Percentiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Percentiles {
    fn take(&mut self, run: &Run) {
        self.p50.push(run.percentile_ms(0.5));
        self.p99.push(run.percentile_ms(0.99));
    }
}

/// # Errors
/// The stack does not start, or something refuses.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let stack = Stack::start(&[]).await?;
    report.synced("the stack", stack.sync().await?);
    let mut connection = stack.database().await?;
    let mut both = Vec::new();
    for (n, count) in MESSAGES.into_iter().enumerate() {
        let count = plan.scaled(count);
        progress(format_args!("pages: loading {count} messages"));
        let address = format!("4917000000{n:02}");
        let full = rows::load(&stack, &mut connection, &address, count).await?;
        both.push((
            of_rest(&stack, full)?,
            of_sql(&stack, full)?,
            Times::default(),
        ));
    }
    sqlx::raw_sql("vacuum (analyze) chat4all.messages, chat4all.deliveries, chat4all.conversations, chat4all.participants")
        .execute(&mut connection)
        .await?;
    drop(connection);
    for round in 1..=plan.rounds {
        progress(format_args!(
            "pages: round {round}, cold, then {RATE} a second"
        ));
        for (rest, sql, times) in &mut both {
            restart(&stack, &sql.reads).await?;
            times.rest_cold.push(once(&**rest).await?);
            restart(&stack, &sql.reads).await?;
            times.sql_cold.push(once(&**sql).await?);
        }
        for (rest, sql, times) in &mut both {
            let before = open(Arc::clone(sql), RATE, plan.times()).await?;
            let between = open(Arc::clone(rest), RATE, plan.times()).await?;
            let after = open(Arc::clone(sql), RATE, plan.times()).await?;
            times.sql.take(&before);
            times.rest.take(&between);
            times.sql.take(&after);
        }
    }
    let both = both
        .into_iter()
        .map(|(rest, _, times)| (rest.full.messages, times));
    tell(&both.collect::<Vec<_>>(), report);
    stack.stop().await
}

fn tell(both: &[(usize, Times)], report: &mut Report) {
    for (messages, times) in both {
        let mut add = |what: &str, values: &[f64]| {
            let what = format!("(e) {PAGE} messages of {messages}, {what}");
            report.add(what, "ms", values);
        };
        add("REST, warm, p50", &times.rest.p50);
        add("bare SQL, warm, p50", &times.sql.p50);
        add("REST, warm, p99", &times.rest.p99);
        add("bare SQL, warm, p99", &times.sql.p99);
        let cold = "the first page after a restart of Postgres (the kernel's cache is kept)";
        add(&format!("REST, {cold}"), &times.rest_cold);
        add(&format!("bare SQL, {cold}"), &times.sql_cold);
        let around = times.sql.p99.chunks(2);
        let around = around.map(|pair| f64::midpoint(pair[0], pair[1]));
        let pairs = times.rest.p99.iter().zip(around);
        let more: Vec<_> = pairs.map(|(rest, sql)| rest - sql).collect();
        let what = format!("(e) {PAGE} messages of {messages}, p99 of REST − bare SQL, warm");
        report.aim(what, "ms", &more, Aim::AtMost(5.0));
    }
    if let [(small, few), (large, many)] = both {
        let ratio = |many: &[f64], few: &[f64]| -> Vec<f64> {
            many.iter().zip(few).map(|(many, few)| many / few).collect()
        };
        let what = format!("(e) REST, warm, p50, {large} messages / {small}");
        let aim = Aim::AtMost(1.3);
        report.aim(what, "×", &ratio(&many.rest.p50, &few.rest.p50), aim);
        let what = format!("(e) REST, warm, p99, {large} messages / {small}");
        report.aim(what, "×", &ratio(&many.rest.p99, &few.rest.p99), aim);
    }
}

/// Who reads is in the conversation, and may see nothing else.
fn of_rest(system: &System, full: Full) -> anyhow::Result<Arc<Pages>> {
    let queries = system.variable("CHAT4ALL_QUERY_URL")?;
    let conversation = full.conversation;
    Ok(Arc::new(Pages {
        client: system.client().clone(),
        url: format!("{queries}/v1/conversations/{conversation}/messages"),
        authorization: format!("Bearer {}", system.reader_token(DEVELOPER)?),
        full,
    }))
}

fn of_sql(system: &System, full: Full) -> anyhow::Result<Arc<Statements>> {
    let config = system.config()?;
    let settings = &config.postgres;
    let statement = settings.statement_timeout_ms.duration();
    let pool = database(&config, "bench")?.pool_to_read(
        u32::try_from(settings.max_connections).context("postgres.max_connections")?,
        settings.acquire_timeout_ms.duration(),
        statement,
    );
    Ok(Arc::new(Statements {
        reads: Reads::new(pool, statement + READ_MARGIN),
        reader: Reader {
            user: UserId::derive(&config.auth.issuer, DEVELOPER),
            sees_all: false,
        },
        full,
    }))
}

/// Milliseconds of one.
async fn once(operation: &impl Operation) -> anyhow::Result<f64> {
    let begun = Instant::now();
    operation.once(0, begun).await?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
