//! A stack with history, a rebuild of it, and what goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chat4all_postgres::rebuild::Schemas;
use chat4all_projector::rebuild::{
    self, Config, Differences, Error, Outcome, Phase, Progress, Purpose, Replaced,
};
use chat4all_service::config::Poison;
use futures::StreamExt as _;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::projector::stack::{How, PATIENCE, Running, Stack, assert_same};
use crate::projector::story::Story;

pub const LIVE: &str = "chat4all";

pub const SWAP: Purpose = Purpose::Swap {
    differences: Differences::Refuse,
    replaced: Replaced::Drop,
};
pub const SWAP_ANYWAY: Purpose = Purpose::Swap {
    differences: Differences::Accept,
    replaced: Replaced::Drop,
};

/// Between four journeys that are written meanwhile and the next.
const BREATH: Duration = Duration::from_millis(20);

/// Conversations with whole journeys in them: 1 + 5 events per message each.
pub async fn write(story: &Story, conversations: std::ops::Range<u64>, messages: u64) {
    futures::stream::iter(conversations)
        .for_each_concurrent(16, |number| story.whole_journeys(number, messages))
        .await;
}

/// Stacks with some history and a live projector.
pub async fn with_history(conversations: u64, messages: u64) -> (Stack, Running) {
    let stack = Stack::start().await;
    write(&Story::new(stack.log()), 0..conversations, messages).await;
    let running = stack.project(&How::into(LIVE));
    stack.level(LIVE).await;
    (stack, running)
}

/// A rebuild under way.
pub struct Rebuilding {
    pub progress: watch::Receiver<Progress>,
    /// Cancelled: it is asked to stop.
    pub stop: CancellationToken,
    task: JoinSet<Result<Outcome, Error>>,
}

impl Rebuilding {
    pub fn start(stack: &Stack, purpose: Purpose) -> Self {
        Self::with(config(stack, purpose))
    }

    pub fn with(config: Config) -> Self {
        let (tell, progress) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(rebuild::run(config, tell, stop.clone()));
        Self {
            progress,
            stop,
            task,
        }
    }

    pub async fn ended(self) -> Result<Outcome, Error> {
        self.ended_within(PATIENCE).await
    }

    pub async fn ended_within(mut self, patience: Duration) -> Result<Outcome, Error> {
        let ended = tokio::time::timeout(patience, self.task.join_next()).await;
        let last = self.progress.borrow().clone();
        ended
            .unwrap_or_else(|_| panic!("the rebuild does not end: {last:?}"))
            .expect("it ends once")
            .expect("it does not panic")
    }

    /// Waits until it says something that `is`.
    pub async fn says(&mut self, is: impl Fn(&Progress) -> bool) -> Progress {
        let said = tokio::time::timeout(PATIENCE, self.progress.wait_for(|now| is(now))).await;
        let said = said.map(|now| now.expect("it still works").clone());
        said.unwrap_or_else(|_| panic!("last it said {:?}", self.progress.borrow()))
    }

    pub async fn reaches(&mut self, phase: Phase) {
        self.says(|now| now.phase == phase).await;
    }
}

pub fn config(stack: &Stack, purpose: Purpose) -> Config {
    Config {
        log: stack.log().clone(),
        postgres: stack.database(LIVE),
        poison: Poison::Park,
        batch: 1_000,
        workers: 2,
        purpose,
    }
}

/// Rebuilds, and expects that it comes to an end by itself.
pub async fn rebuild(stack: &Stack, purpose: Purpose) -> Outcome {
    let ended = Rebuilding::start(stack, purpose).ended().await;
    ended.expect("the rebuild goes through")
}

/// Nothing keeps the next one from it: its tables are live, and what the log says.
pub async fn the_next_one_does_it(stack: &Stack, running: Running, before: i64) {
    let outcome = rebuild(stack, SWAP).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    assert_ne!(identity(stack).await, before);
    running.stop().await;
    is_what_the_log_says(stack).await;
}

/// One statement past everybody: an operator's hand in the tables.
pub async fn tamper(stack: &Stack, statement: &str) -> u64 {
    let pool = stack.pool(LIVE);
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&pool)
        .await;
    done.expect("the statement is right").rows_affected()
}

/// Somebody holds a checkpoint, as a projector in the middle of a transaction does, until it is let go: the server would end a
/// projector's session before that.
pub async fn held_checkpoint(stack: &Stack) -> PgConnection {
    let mut hand = stack.database(LIVE).connect().await.unwrap();
    let holding = "begin;
         set local idle_in_transaction_session_timeout = 0;
         update projector_checkpoint set sequence = sequence where partition = 3";
    sqlx::raw_sql(holding).execute(&mut hand).await.unwrap();
    hand
}

pub async fn let_go(mut hand: PgConnection) {
    sqlx::raw_sql("rollback").execute(&mut hand).await.unwrap();
}

pub async fn ask<T>(stack: &Stack, statement: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let pool = stack.pool(LIVE);
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
        .fetch_one(&pool)
        .await
        .expect("the statement is right")
}

/// The schemas of ours that there are.
pub async fn schemas(stack: &Stack) -> Vec<String> {
    ask(
        stack,
        "select array(select nspname::text from pg_namespace where nspname like 'chat4all%' order by 1)",
    )
    .await
}

pub async fn only_live_is_left(stack: &Stack) {
    assert_eq!(schemas(stack).await, [LIVE]);
}

/// The live schema's number: another one after a swap.
pub async fn identity(stack: &Stack) -> i64 {
    let live = Schemas::of(stack.database(LIVE).schema()).live;
    ask(
        stack,
        &format!("select oid::bigint from pg_namespace where nspname = '{live}'"),
    )
    .await
}

/// Live tables are what a fold of the whole log gives, and nothing was parked.
pub async fn is_what_the_log_says(stack: &Stack) {
    stack.level(LIVE).await;
    let live = stack.dump(LIVE).await;
    assert_same(&live, &stack.fold(&How::into("fresh")).await);
    assert!(live["projector_dead_letter"].is_empty());
    tamper(stack, "drop schema fresh cascade").await;
}

/// Something that goes on until it is told to end.
pub struct Meanwhile {
    done: Arc<AtomicBool>,
    pub rounds: Arc<AtomicU64>,
    task: JoinSet<()>,
}

impl Meanwhile {
    /// Commands come in all the time, each time four journeys in conversations of their own; not as fast as they can be written:
    /// that is as fast as a busy machine folds, and then a rebuild rightly says that it does not come to an end.
    pub fn writing(stack: &Stack, from: u64) -> Self {
        let story = Arc::new(Story::new(stack.log()));
        Self::start(move |round| {
            let story = Arc::clone(&story);
            let first = from + round * 4;
            async move {
                write(&story, first..first + 4, 3).await;
                tokio::time::sleep(BREATH).await;
            }
        })
    }

    /// Somebody reads all the time, through prepared statements and without: nothing fails, and what was there stays.
    pub fn reading(stack: &Stack) -> Vec<Self> {
        (0..4)
            .map(|reader| Self::one_reader(stack, reader))
            .collect()
    }

    fn one_reader(stack: &Stack, reader: u64) -> Self {
        let pool =
            stack
                .database(LIVE)
                .pool_to_read(1, Duration::from_secs(5), Duration::from_secs(5));
        let most = Arc::new(AtomicU64::new(0));
        Self::start(move |_| {
            let (pool, most) = (pool.clone(), Arc::clone(&most));
            async move {
                // One statement over several tables and the checkpoints: they belong together at every moment.
                let statement = sqlx::query_as::<_, (i64, i64, i64, i64)>(
                    "select (select count(*) from messages), (select count(*) from deliveries),
                            (select sum(message_count)::bigint from conversations),
                            (select sum(sequence)::bigint from projector_checkpoint)",
                );
                let row = statement
                    .persistent(reader.is_multiple_of(2))
                    .fetch_one(&pool)
                    .await;
                let (messages, deliveries, counted, folded) = row.expect("a read fails");
                assert_eq!(messages, deliveries);
                assert_eq!(messages, counted);
                let before = most.swap(folded as u64, Ordering::SeqCst);
                assert!(folded as u64 >= before, "from {before} back to {folded}");
            }
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        each: impl Fn(u64) -> F + Send + 'static,
    ) -> Self {
        let (done, rounds) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (is_done, count) = (Arc::clone(&done), Arc::clone(&rounds));
        let mut task = JoinSet::new();
        task.spawn(async move {
            while !is_done.load(Ordering::SeqCst) {
                each(count.fetch_add(1, Ordering::SeqCst)).await;
            }
        });
        Self { done, rounds, task }
    }

    /// Ends it, and fails if it has failed. How many rounds there were.
    pub async fn end(mut self) -> u64 {
        self.done.store(true, Ordering::SeqCst);
        while let Some(ended) = self.task.join_next().await {
            ended.expect("nothing failed meanwhile");
        }
        self.rounds.load(Ordering::SeqCst)
    }
}
