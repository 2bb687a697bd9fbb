//! Sixteen writers, what each was told, and what is on the log in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use chat4all_domain::delivery::{self, Command, Operation};
use chat4all_domain::{ChannelKind, ConversationId, Delivery, MessageId, Timestamp};
use chat4all_nats::execute::Error;
use chat4all_nats::resolved::{Answer as Said, Found};
use chat4all_nats::{Change, Executed, Log, Store, streams};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::checker::{self, Answer, OnLog, Told};
use crate::support::log;

const AGGREGATES: u128 = 8;
const PROCESSES: usize = 4;
const WRITERS_EACH: usize = 4;
const COMMANDS: usize = 5_200;
/// Seconds a command has. Longer than a cluster needs to elect a leader.
const PATIENCE: u64 = 30;
/// Shorter than usual: more that is ambiguous, in less time.
const ACK_TIMEOUT: Duration = Duration::from_millis(250);

/// What all writers share.
#[derive(Default)]
struct Shared {
    told: Mutex<BTreeMap<String, Answer>>,
    begun: AtomicUsize,
    answered: AtomicUsize,
    /// Counts questions and answers.
    clock: AtomicU64,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

/// Sixteen writers in four "processes" (a connection, a cache and queues of their own each) on eight aggregates.
pub struct Load {
    shared: Arc<Shared>,
    logs: Vec<Log>,
    writers: JoinSet<()>,
}

/// When a server was killed: what was asked for before, and answered after, was in flight.
pub struct Kill {
    before: u64,
    after: u64,
}

impl Load {
    pub async fn start(url: &str, replicas: usize, seed: u64) -> Self {
        let shared = Arc::<Shared>::default();
        let mut load = Self {
            shared: Arc::clone(&shared),
            logs: Vec::new(),
            writers: JoinSet::new(),
        };
        for process in 0..PROCESSES {
            let log = log::opened(url, &format!("writer-{process}"), &log::layout(replicas)).await;
            let log = log.with_ack_timeout(ACK_TIMEOUT);
            let store = Store::<Delivery>::new(log.clone(), TaskTracker::new());
            load.logs.push(log);
            for writer in 0..WRITERS_EACH {
                let number = process * WRITERS_EACH + writer;
                let rng = Rng::with_seed(seed ^ (number + 7) as u64);
                let shared = Arc::clone(&shared);
                let number = u16::try_from(number).expect("there are 16");
                load.writers
                    .spawn(write(store.clone(), number, rng, shared));
            }
        }
        load
    }

    /// Notes when `kill` happened.
    pub async fn around(&self, kill: impl Future<Output = ()>) -> Kill {
        let before = self.shared.tick();
        kill.await;
        let after = self.shared.tick();
        Kill { before, after }
    }
    pub fn is_done(&self) -> bool {
        self.shared.answered.load(Ordering::SeqCst) >= COMMANDS
    }
    /// Waits until `more` commands were answered, or all.
    pub async fn progress(&self, more: usize) {
        let from = self.shared.answered.load(Ordering::SeqCst);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        loop {
            let now = self.shared.answered.load(Ordering::SeqCst);
            if now >= (from + more).min(COMMANDS) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "stuck at {now} of {COMMANDS} answers"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the last answer, compares all of them with the log, and says how many kills hit something in flight. With the names
    /// of `nodes`, the log is what each of them has: it leads while it is read.
    pub async fn judge(mut self, log: &Log, kills: &[Kill], nodes: &[&str]) -> usize {
        while let Some(writer) = self.writers.join_next().await {
            writer.expect("a writer panicked");
        }
        let told = std::mem::take(&mut *self.shared.told.lock().unwrap());
        let on_log = everything(log).await;
        let count = |wanted: fn(&Told) -> bool| {
            let told = told.values().filter(|answer| wanted(&answer.told));
            told.count()
        };
        let refused = count(|told| matches!(told, Told::Refused { .. }));
        println!(
            "{} commands: {} stored, {refused} refused, {} not stored, {} unknown; {} events on the log",
            told.len(),
            count(|told| matches!(told, Told::Stored { .. })),
            count(|told| *told == Told::NotStored),
            count(|told| *told == Told::Unknown),
            on_log.len(),
        );
        assert!(told.len() >= 5_000, "only {} commands", told.len());
        assert!(refused > 500, "hardly anything was contested: {refused}");
        let verdict = checker::check(&told, &on_log);
        assert!(verdict.is_clean(), "{verdict:#?}");
        for node in nodes {
            for partition in log.partitions().all() {
                log::led_by(log, partition, node).await;
            }
            assert!(everything(log).await == on_log, "{node} has something else");
        }
        let hit = |kill: &&Kill| {
            let spans =
                |answer: &Answer| answer.asked < kill.before && kill.after < answer.answered;
            told.values().any(spans)
        };
        kills.iter().filter(hit).count()
    }

    /// How often the broker answered this and the leader then showed that, over all processes. Ask before the judge.
    pub fn resolved(&self, said: Said, found: Found) -> u64 {
        let counts = self
            .logs
            .iter()
            .map(|log| log.resolved().count(said, found));
        counts.sum()
    }
}

/// Half of the commands are a writer's own, half contend with everybody for the next attempt of one delivery.
async fn write(store: Store<Delivery>, writer: u16, mut rng: Rng, shared: Arc<Shared>) {
    let mut own = 0;
    let mut next_contested = [1_u32; AGGREGATES as usize];
    while shared.begun.fetch_add(1, Ordering::SeqCst) < COMMANDS {
        let aggregate = rng.usize(..AGGREGATES as usize);
        own += 1;
        let owner = format!("w{writer}-{own}");
        // Delivery 0 is everybody's; every other number is used by one writer alone.
        let contested = rng.bool();
        let (n, attempt) = match contested {
            true => (0, next_contested[aggregate]),
            false => (writer * 1_000 + own, 1),
        };
        let command = Command::Attempt {
            n,
            op: Operation::Send,
            attempt,
            owner: owner.clone(),
            at: Timestamp::from_unix_ms(1_764_000_000_000),
        };
        let asked = shared.tick();
        let id = id(aggregate as u128);
        let answer = store.execute(&id, command, log::context(PATIENCE)).await;
        let answered = shared.tick();
        let told = match answer {
            Ok(executed) => stored(&executed, n, attempt),
            Err(Error::Rejected(delivery::Rejection::NotNext { n, last, asked })) => {
                assert!(contested, "{owner}: its own delivery has seen {last}");
                assert_eq!((n, asked), (0, attempt), "{owner}: what it asked for");
                assert_ne!(last + 1, attempt, "{owner}: refused without a reason");
                Told::Refused { last }
            }
            Err(Error::Unavailable | Error::Conflict) => Told::NotStored,
            Err(Error::Unknown) => Told::Unknown,
            Err(error) => panic!("{owner}: {error:?}"),
        };
        if contested {
            next_contested[aggregate] = match told {
                Told::Stored { .. } => attempt + 1,
                Told::Refused { last } => last + 1,
                Told::NotStored | Told::Unknown => attempt,
            };
        }
        let answer = Answer {
            chain: format!("{aggregate}/{n}"),
            asked,
            answered,
            told,
        };
        shared.told.lock().unwrap().insert(owner, answer);
        shared.answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// The answer says what was made of it, too.
fn stored(executed: &Executed<Delivery>, n: u16, attempt: u32) -> Told {
    let [delivery::Event::Attempted { facts }] = &executed.events[..] else {
        panic!("an attempt is one event, not {:?}", executed.events)
    };
    assert_eq!((facts.n, facts.attempt), (n, attempt));
    let entry = executed.state.entry(n, Operation::Send);
    assert_eq!(entry.attempts, attempt, "the state right after it");
    assert_eq!(executed.revision.get(), executed.position.sequence);
    Told::Stored {
        stream: streams::name(executed.position.partition),
        sequence: executed.position.sequence,
    }
}

fn id(aggregate: u128) -> delivery::Id {
    delivery::Id {
        kind: ChannelKind::WhatsApp,
        conversation: ConversationId::new(Uuid::from_u128(aggregate + 1)),
        message: MessageId::new(Uuid::from_u128(1)),
    }
}

/// One message. A node that has just become the leader may not have applied yet what it knows to be committed, and does not find
/// it for a moment; what is lost stays lost.
async fn message<I>(stream: &Stream<I>, sequence: u64) -> StreamMessage {
    let begun = Instant::now();
    loop {
        match stream.get_raw_message(sequence).await {
            Ok(message) => return message,
            Err(error)
                if error.kind() == LastRawMessageErrorKind::NoMessageFound
                    && begun.elapsed() < Duration::from_secs(30) =>
            {
                let info = stream.get_info().await;
                println!("asked again for {sequence}: {error}; the stream: {info:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{sequence}: {error}"),
        }
    }
}

/// Reads every stream message by message, with nothing of our own but the decoder.
async fn everything(log: &Log) -> Vec<OnLog> {
    let mut all = Vec::new();
    let mut attempts = BTreeMap::new();
    for partition in log.partitions().all() {
        let stream = log.stream(partition);
        let state = stream.get_info().await.unwrap().state;
        assert_eq!(state.messages, state.last_sequence, "a stream has no holes");
        for sequence in 1..=state.last_sequence {
            let message = message(stream, sequence).await;
            let change = Change::read(&message.subject, sequence, &message.payload).unwrap();
            let Change::Delivery(id, events) = change else {
                panic!("only deliveries were written")
            };
            all.extend(events.into_iter().map(|recorded| {
                let delivery::Event::Attempted { facts } = recorded.event else {
                    panic!("only attempts were written")
                };
                // Whoever ignored the expected revision would write a number twice, or leave one out.
                let last: &mut u32 = attempts.entry((id.conversation, facts.n)).or_default();
                assert_eq!(facts.attempt, *last + 1, "{id:?} at {sequence}");
                *last = facts.attempt;
                OnLog {
                    command: facts.owner,
                    number: facts.attempt,
                    stream: streams::name(partition),
                    sequence,
                }
            }));
        }
    }
    all
}
