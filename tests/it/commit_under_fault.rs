//! The commit algorithm while everything around it breaks: lost acknowledgements, the stream's leader killed, writers
//! that race within a process and between processes. Afterwards every answer is compared with the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat4all_cli::embedded::{ClusterOptions, Nats, NatsCluster, NatsOptions, temp_dir};
use chat4all_domain::delivery::{self, Command, Operation};
use chat4all_domain::{ChannelKind, ConversationId, Delivery, MessageId, Partition, Timestamp};
use chat4all_nats::execute::Error;
use chat4all_nats::{Change, Log, Store, streams};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::checker::{self, OnLog, Told};
use crate::support::proxy::Proxy;
use crate::support::{log, seed};

const AGGREGATES: u128 = 8;
const PROCESSES: usize = 4;
const WRITERS_EACH: usize = 4;
const COMMANDS: usize = 5_200;
const LOST_PERCENT: u64 = 20;
/// Seconds a command has. Longer than a cluster needs to elect a leader.
const PATIENCE: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_one_node_every_answer_is_true_while_acks_are_lost_and_the_server_is_killed() {
    let seed = seed("commit on one node");
    let dir = temp_dir().unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    log::provisioned(&nats.url(), &log::layout(1)).await;
    let proxy = Proxy::start(nats.port(), LOST_PERCENT, seed).await;
    let load = Load::start(&proxy.url(), 1, seed).await;

    let mut rng = Rng::with_seed(seed ^ 1);
    let mut kills = 0;
    while !load.is_done() {
        tokio::time::sleep(Duration::from_millis(rng.u64(300..1_500))).await;
        let in_flight = load.in_flight();
        nats.kill().await;
        kills += u32::from(in_flight > 0);
        tokio::time::sleep(Duration::from_millis(rng.u64(0..300))).await;
        nats.restart().await.unwrap();
        // Let something through between two kills.
        load.progress(350).await;
    }
    let (dropped, passed) = proxy.counts();
    println!(
        "{kills} kills with commands in flight, {dropped} of {} acks lost",
        dropped + passed
    );
    assert!(kills >= 5, "only {kills} kills hit commands in flight");
    assert!(
        dropped * 100 > (dropped + passed) * 15,
        "the proxy dropped {dropped}, passed {passed}"
    );
    let log = log::opened(&nats.url(), "checker", &log::layout(1)).await;
    load.judge(&log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_three_nodes_every_answer_is_true_while_acks_are_lost_and_leaders_are_killed() {
    let seed = seed("commit on three nodes");
    let dir = temp_dir().unwrap();
    let mut cluster = NatsCluster::start(ClusterOptions::in_dir(dir.path()))
        .await
        .unwrap();
    let log = log::provisioned(&cluster.url(), &log::layout(3)).await;
    let mut proxies = Vec::new();
    for (i, node) in cluster.nodes().iter().enumerate() {
        proxies.push(Proxy::start(node.port(), LOST_PERCENT, seed + i as u64).await);
    }
    let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
    let load = Load::start(&urls.join(","), 3, seed).await;

    let mut rng = Rng::with_seed(seed ^ 1);
    let mut kills = 0;
    while !load.is_done() {
        tokio::time::sleep(Duration::from_millis(rng.u64(500..2_000))).await;
        let Some(leader) = leader_of(&log, Partition::new(rng.u8(..8)).unwrap()).await else {
            continue;
        };
        let node = cluster.index_of(&leader).unwrap();
        let in_flight = load.in_flight();
        cluster.node(node).kill().await;
        kills += u32::from(in_flight > 0);
        tokio::time::sleep(Duration::from_millis(rng.u64(0..3_000))).await;
        cluster.node(node).restart().await.unwrap();
        // A quorum must stay: the next one falls only when this one is back in every stream.
        all_replicas_current(&log).await;
        load.progress(500).await;
    }
    let dropped: u64 = proxies.iter().map(|proxy| proxy.counts().0).sum();
    println!("{kills} leaders killed with commands in flight, {dropped} acks lost");
    assert!(kills >= 5, "only {kills} kills hit commands in flight");
    assert!(dropped > 200, "only {dropped} acks were dropped");
    load.judge(&log::opened(&cluster.url(), "checker", &log::layout(3)).await)
        .await;
}

async fn leader_of(log: &Log, partition: Partition) -> Option<String> {
    log.stream(partition).get_info().await.ok()?.cluster?.leader
}

async fn all_replicas_current(log: &Log) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let mut behind = Vec::new();
        for partition in log.partitions().all() {
            let info = log
                .stream(partition)
                .get_info()
                .await
                .ok()
                .and_then(|info| info.cluster);
            let current = info.as_ref().is_some_and(|cluster| {
                cluster.leader.is_some()
                    && cluster
                        .replicas
                        .iter()
                        .all(|peer| peer.current && !peer.offline)
            });
            if !current {
                behind.push(partition);
            }
        }
        if behind.is_empty() {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not current after a minute: {behind:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sixteen writers in four "processes" (a connection, a cache and queues of their own each) on eight aggregates.
struct Load {
    told: Arc<Mutex<BTreeMap<String, Told>>>,
    begun: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    writers: JoinSet<()>,
}

impl Load {
    async fn start(url: &str, replicas: usize, seed: u64) -> Self {
        let told = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let (begun, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut writers = JoinSet::new();
        for process in 0..PROCESSES {
            let log = log::opened(url, &format!("writer-{process}"), &log::layout(replicas)).await;
            let store = Store::<Delivery>::new(log, TaskTracker::new());
            for writer in 0..WRITERS_EACH {
                let name = format!("w{}", process * WRITERS_EACH + writer);
                let rng = Rng::with_seed(seed ^ (process * WRITERS_EACH + writer + 7) as u64);
                writers.spawn(write(
                    store.clone(),
                    name,
                    rng,
                    Arc::clone(&told),
                    Arc::clone(&begun),
                    Arc::clone(&answered),
                ));
            }
        }
        Self {
            told,
            begun,
            answered,
            writers,
        }
    }

    fn in_flight(&self) -> usize {
        let answered = self.answered.load(Ordering::SeqCst);
        self.begun.load(Ordering::SeqCst).min(COMMANDS) - answered.min(COMMANDS)
    }
    fn is_done(&self) -> bool {
        self.answered.load(Ordering::SeqCst) >= COMMANDS
    }
    /// Waits until `more` commands were answered, or all.
    async fn progress(&self, more: usize) {
        let from = self.answered.load(Ordering::SeqCst);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        loop {
            let now = self.answered.load(Ordering::SeqCst);
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

    async fn judge(mut self, log: &Log) {
        while let Some(writer) = self.writers.join_next().await {
            writer.expect("a writer panicked");
        }
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let on_log = everything(log).await;
        let count = |wanted: fn(&Told) -> bool| told.values().filter(|told| wanted(told)).count();
        println!(
            "{} commands: {} stored, {} refused, {} unknown; {} events on the log",
            told.len(),
            count(|told| matches!(told, Told::Stored { .. })),
            count(|told| *told == Told::NotStored),
            count(|told| *told == Told::Unknown),
            on_log.len(),
        );
        assert!(told.len() >= 5_000, "only {} commands", told.len());
        assert!(
            count(|told| *told == Told::NotStored) > 50,
            "hardly anything was contested"
        );
        let verdict = checker::check(&told, &on_log);
        assert!(verdict.is_clean(), "{verdict:#?}");
    }
}

/// Half of the commands are a writer's own, half contend with everybody for the next attempt of one delivery.
async fn write(
    store: Store<Delivery>,
    name: String,
    mut rng: Rng,
    told: Arc<Mutex<BTreeMap<String, Told>>>,
    begun: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
) {
    let mut own = 0;
    let mut next_contested = [1_u32; AGGREGATES as usize];
    while begun.fetch_add(1, Ordering::SeqCst) < COMMANDS {
        let aggregate = rng.usize(..AGGREGATES as usize);
        let id = id(aggregate as u128);
        own += 1;
        let owner = format!("{name}-{own}");
        let writer: u16 = name[1..].parse().unwrap();
        let contested = rng.bool();
        // Delivery 0 is everybody's; every other number is used by one writer alone.
        let (n, attempt) = match contested {
            true => (0, next_contested[aggregate]),
            false => (writer * 1_000 + own, 1),
        };
        let at = Timestamp::from_unix_ms(1_764_000_000_000);
        let command = Command::Attempt {
            n,
            op: Operation::Send,
            attempt,
            owner: owner.clone(),
            at,
        };
        let answer = store.execute(&id, command, log::context(PATIENCE)).await;
        let answer = match answer {
            Ok(executed) => {
                assert_eq!(executed.events.len(), 1, "an attempt is one event");
                if contested {
                    next_contested[aggregate] = attempt + 1;
                }
                let stream = streams::name(executed.position.partition);
                Told::Stored {
                    stream,
                    sequence: executed.position.sequence,
                }
            }
            Err(Error::Rejected(delivery::Rejection::NotNext { last, .. })) if contested => {
                next_contested[aggregate] = last + 1;
                Told::NotStored
            }
            Err(Error::Unavailable | Error::Conflict) => Told::NotStored,
            Err(Error::Unknown) => Told::Unknown,
            Err(error) => panic!("{owner}: {error:?}"),
        };
        told.lock().unwrap().insert(owner, answer);
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

fn id(aggregate: u128) -> delivery::Id {
    delivery::Id {
        kind: ChannelKind::WhatsApp,
        conversation: ConversationId::new(Uuid::from_u128(aggregate + 1)),
        message: MessageId::new(Uuid::from_u128(1)),
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
            let message = stream.get_raw_message(sequence).await.unwrap();
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
                    stream: streams::name(partition),
                    sequence,
                }
            }));
        }
    }
    all
}
