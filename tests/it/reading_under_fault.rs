//! The reading rule while a second reader steals from the durable, an owner freezes and wakes, connections drop and the
//! server is killed: every reader's fold equals the stream.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use chat4all_cli::embedded::{ClusterOptions, Nats, NatsCluster, NatsOptions, temp_dir};
use chat4all_domain::Partition;
use chat4all_nats::reader::{self, Feed, Keep, Spec};
use chat4all_nats::{Log, streams};
use fastrand::Rng;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::proxy::Proxy;
use crate::support::{checker, log, seed};

const MESSAGES: u64 = 4_000;
const DURABLE: &str = "projector-00";
const FILTER: &str = "chat.evt.00.conversation.>";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_one_node_every_readers_fold_is_the_stream() {
    let seed = seed("reading on one node");
    let dir = temp_dir().unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    log::provisioned(&nats.url(), &log::layout(1)).await;
    let proxy = Proxy::start(nats.port(), 0, seed).await;
    let mut scene = Scene::start(&nats.url(), &proxy.url(), 1, seed).await;

    let begun = Instant::now();
    let mut rng = Rng::with_seed(seed ^ 1);
    for round in 1..=8 {
        scene.written(round * MESSAGES / 10).await;
        sleep(Duration::from_millis(rng.u64(0..400))).await;
        println!("round {round} at {:?}", begun.elapsed());
        if round % 4 == 0 {
            nats.kill().await;
            sleep(Duration::from_millis(rng.u64(0..300))).await;
            nats.restart().await.unwrap();
        } else {
            proxy.cut_all();
        }
    }
    scene.judge(&nats.url(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_three_nodes_every_readers_fold_is_the_stream() {
    let seed = seed("reading on three nodes");
    let dir = temp_dir().unwrap();
    let mut cluster = NatsCluster::start(ClusterOptions::in_dir(dir.path()))
        .await
        .unwrap();
    let log = log::provisioned(&cluster.url(), &log::layout(3)).await;
    let mut proxies = Vec::new();
    for node in cluster.nodes() {
        proxies.push(Proxy::start(node.port(), 0, seed).await);
    }
    let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
    let mut scene = Scene::start(&cluster.url(), &urls.join(","), 3, seed).await;

    let mut rng = Rng::with_seed(seed ^ 1);
    for round in 1..=6 {
        scene.written(round * MESSAGES / 10).await;
        sleep(Duration::from_millis(rng.u64(0..400))).await;
        if round % 3 == 0 {
            let leader = log::leader(&log, partition()).await;
            let node = cluster.index_of(&leader).unwrap();
            cluster.node(node).kill().await;
            sleep(Duration::from_millis(rng.u64(0..1_000))).await;
            cluster.node(node).restart().await.unwrap();
        } else {
            proxies.iter().for_each(Proxy::cut_all);
        }
    }
    scene.judge(&cluster.url(), 3).await;
}

fn partition() -> Partition {
    Partition::new(0).unwrap()
}

fn whole() -> Spec {
    Spec::partition(
        partition(),
        DURABLE.to_owned(),
        "a test's reader".to_owned(),
    )
}

/// One writer; an owner of the durable; a second owner that freezes in the middle and wakes; a thief; and a reader of
/// one aggregate type through a filter.
struct Scene {
    begun: Instant,
    written: Arc<AtomicU64>,
    frozen: CancellationToken,
    done: CancellationToken,
    writer: JoinSet<()>,
    readers: JoinSet<(&'static str, Vec<(u64, u64)>)>,
    thief: JoinSet<u64>,
}

impl Scene {
    async fn start(writer_url: &str, url: &str, replicas: usize, seed: u64) -> Self {
        let layout = log::layout(replicas);
        let written = Arc::<AtomicU64>::default();
        let (frozen, done) = (CancellationToken::new(), CancellationToken::new());
        let mut scene = Self {
            begun: Instant::now(),
            written: Arc::clone(&written),
            frozen: frozen.clone(),
            done: done.clone(),
            writer: JoinSet::new(),
            readers: JoinSet::new(),
            thief: JoinSet::new(),
        };
        let sleeper = log::opened(url, "sleeper", &layout).await;
        let owner = log::opened(url, "owner", &layout).await;
        let filtered = log::opened(url, "filtered", &layout).await;
        let thief = log::opened(url, "thief", &layout).await;
        let writer = log::opened(writer_url, "writer", &layout).await;

        let mut feed = Feed::open(sleeper, whole(), 0).await.unwrap();
        scene.readers.spawn(async move {
            let mut fold = Vec::new();
            // Reads for a while, is frozen with its pull open and messages in its buffers, and goes on as if nothing was.
            read(&mut feed, &mut fold, MESSAGES / 8).await;
            frozen.cancelled().await;
            read(&mut feed, &mut fold, MESSAGES).await;
            ("the owner that froze", fold)
        });
        let mut feed = Feed::open(owner, whole(), 0).await.unwrap();
        scene.readers.spawn(async move {
            let mut fold = Vec::new();
            read(&mut feed, &mut fold, MESSAGES).await;
            ("the owner", fold)
        });
        let spec = Spec {
            durable: "filtered-00".to_owned(),
            filter: Some(FILTER.to_owned()),
            keep: Keep::Always,
            ..whole()
        };
        let mut feed = Feed::open(filtered, spec, 0).await.unwrap();
        let last_of_filter = (1..=MESSAGES)
            .rfind(|i| subject(*i).contains(".conversation."))
            .unwrap();
        scene.readers.spawn(async move {
            let mut fold = Vec::new();
            read(&mut feed, &mut fold, last_of_filter).await;
            ("the reader with a filter", fold)
        });
        scene
            .thief
            .spawn(steal(thief, done, Rng::with_seed(seed ^ 2)));
        scene.writer.spawn(write(writer, written));
        scene
    }

    async fn written(&mut self, at_least: u64) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.written.load(Ordering::SeqCst) < at_least {
            assert!(
                Instant::now() < deadline,
                "only {:?} of {at_least} written",
                self.written
            );
            sleep(Duration::from_millis(5)).await;
        }
        if at_least > MESSAGES / 2 {
            self.frozen.cancel();
        }
    }

    async fn judge(mut self, url: &str, replicas: usize) {
        while let Some(writer) = self.writer.join_next().await {
            writer.expect("the writer panicked");
        }
        self.frozen.cancel();
        let log = log::opened(url, "checker", &log::layout(replicas)).await;
        let stream = everything(&log).await;
        assert_eq!(stream.len() as u64, MESSAGES);
        while let Some(reader) = self.readers.join_next().await {
            let (name, fold) = reader.expect("a reader gave up");
            let filtered = name == "the reader with a filter";
            let expected: Vec<_> = stream
                .iter()
                .filter(|(subject, ..)| !filtered || subject.contains(".conversation."))
                .map(|(_, sequence, hash)| (*sequence, *hash))
                .collect();
            println!(
                "{name}: {} events, done {:?} after the start",
                fold.len(),
                self.begun.elapsed()
            );
            checker::same_fold(&expected, &fold).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        }
        self.done.cancel();
        let stolen = self.thief.join_next().await.unwrap().unwrap();
        println!("the thief took {stolen} messages");
        assert!(
            stolen > MESSAGES / 100,
            "the thief took only {stolen} messages"
        );
    }
}

/// Folds until `up_to` was read. Acknowledges as a projector does: after the effect.
async fn read(feed: &mut Feed, fold: &mut Vec<(u64, u64)>, up_to: u64) {
    while feed.position() < up_to {
        let batch = timeout(Duration::from_secs(90), feed.next_batch(100, 1 << 20)).await;
        let batch = batch
            .unwrap_or_else(|_| panic!("stuck at {} of {up_to}", feed.position()))
            .unwrap();
        fold.extend(
            batch
                .iter()
                .map(|stored| (stored.sequence, hash(&stored.payload))),
        );
        feed.folded(feed.position()).await;
    }
}

/// Pulls from the same durable, as an old owner would, and acknowledges what it gets.
async fn steal(log: Log, done: CancellationToken, mut rng: Rng) -> u64 {
    let mut stolen = 0;
    while !done.is_cancelled() {
        sleep(Duration::from_millis(rng.u64(1..40))).await;
        let stream = streams::name(partition());
        let consumer: Result<Consumer<pull::Config>, _> = log
            .jetstream()
            .get_consumer_from_stream(DURABLE, stream)
            .await;
        let Ok(consumer) = consumer else { continue };
        let batch = consumer
            .batch()
            .max_messages(rng.usize(1..50))
            .expires(Duration::from_millis(rng.u64(20..800)))
            .messages()
            .await;
        let Ok(mut batch) = batch else { continue };
        while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(1), batch.next()).await {
            stolen += 1;
            // Some are acknowledged, some come back after the ack wait.
            if rng.bool() {
                let _ = message.ack().await;
            }
        }
    }
    stolen
}

async fn write(log: Log, written: Arc<AtomicU64>) {
    let mut i = 1;
    while i <= MESSAGES {
        let payload = format!("message {i}");
        let publish = async {
            let headers = async_nats::jetstream::message::PublishMessage::build()
                .message_id(format!("m{i}"))
                .expected_last_sequence(i - 1)
                .payload(payload.into());
            log.jetstream()
                .send_publish(subject(i), headers)
                .await?
                .await
        };
        let stored = publish.await.is_ok() || is_stored(&log, i).await;
        if stored {
            written.store(i, Ordering::SeqCst);
            i += 1;
        }
    }
}

async fn is_stored(log: &Log, sequence: u64) -> bool {
    log.stream(partition())
        .get_raw_message(sequence)
        .await
        .is_ok()
}

fn subject(i: u64) -> String {
    let kind = if i.is_multiple_of(7) {
        "conversation"
    } else {
        "message"
    };
    format!("chat.evt.00.{kind}.{}", i % 50)
}

fn hash(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

async fn everything(log: &Log) -> Vec<(String, u64, u64)> {
    let mut all = Vec::new();
    let last = log
        .stream(partition())
        .get_info()
        .await
        .unwrap()
        .state
        .last_sequence;
    for sequence in 1..=last {
        let message = log
            .stream(partition())
            .get_raw_message(sequence)
            .await
            .unwrap();
        all.push((
            message.subject.to_string(),
            sequence,
            hash(&message.payload),
        ));
    }
    all
}

#[tokio::test]
async fn a_reader_that_is_ahead_of_the_stream_is_refused() {
    let one = log::one_node().await;
    let Err(error) = Feed::open(one.log.clone(), whole(), 7).await else {
        panic!("it was opened")
    };
    assert!(
        matches!(
            error,
            reader::Error::Ahead {
                position: 7,
                last: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_last_message_that_somebody_else_took_is_noticed() {
    let one = log::one_node().await;
    let mut feed = Feed::open(one.log.clone(), whole(), 0).await.unwrap();
    let done = CancellationToken::new();
    let stolen = Arc::<AtomicU64>::default();
    let mut thief = JoinSet::new();
    thief.spawn(take_one_at_a_time(
        one.log.clone(),
        done.clone(),
        Arc::clone(&stolen),
    ));
    // Every message is the last one for a while: nothing after it shows that it is missing.
    let mut sequence = 0;
    while stolen.load(Ordering::SeqCst) < 3 {
        let publish = one
            .log
            .jetstream()
            .publish("chat.evt.00.message.1", "x".into());
        sequence += 1;
        assert_eq!(publish.await.unwrap().await.unwrap().sequence, sequence);
        let next = timeout(reader::IDLE_CHECK * 3, feed.next()).await;
        let next = next.expect("noticed in time").unwrap();
        assert_eq!(next.sequence, sequence);
    }
    done.cancel();
}

async fn take_one_at_a_time(log: Log, done: CancellationToken, stolen: Arc<AtomicU64>) {
    let consumer: Consumer<pull::Config> = log
        .jetstream()
        .get_consumer_from_stream(DURABLE, "EVT-00")
        .await
        .unwrap();
    while !done.is_cancelled() {
        let batch = consumer
            .batch()
            .max_messages(1)
            .expires(Duration::from_secs(1));
        let mut batch = batch.messages().await.unwrap();
        while let Some(Ok(message)) = batch.next().await {
            message.ack().await.unwrap();
            stolen.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn a_durable_that_somebody_deleted_is_made_again() {
    let one = log::one_node().await;
    let mut feed = Feed::open(one.log.clone(), whole(), 0).await.unwrap();
    let publish = |text: &'static str| {
        let js = one.log.jetstream().clone();
        async move {
            js.publish("chat.evt.00.message.1", text.into())
                .await
                .unwrap()
                .await
                .unwrap()
        }
    };
    publish("one").await;
    assert_eq!(feed.next().await.unwrap().sequence, 1);
    one.log
        .jetstream()
        .delete_consumer_from_stream(DURABLE, "EVT-00")
        .await
        .unwrap();
    publish("two").await;
    let next = timeout(Duration::from_secs(20), feed.next())
        .await
        .expect("goes on")
        .unwrap();
    assert_eq!(next.sequence, 2);
    publish("three").await;
    let next = timeout(Duration::from_secs(20), feed.next())
        .await
        .expect("goes on")
        .unwrap();
    assert_eq!(next.sequence, 3);
    feed.folded(3).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // A loop that goes on listening is what makes the report true.
        let nothing_more = timeout(Duration::from_millis(200), feed.next()).await;
        assert!(nothing_more.is_err(), "there are only three messages");
        let info = one.log.stream(partition()).consumer_info(DURABLE).await;
        match info {
            Ok(info) if info.ack_floor.stream_sequence == 3 => break,
            other => assert!(Instant::now() < deadline, "the report says {other:?}"),
        }
    }
}

/// The durable's settings as an older release made it: each message is acknowledged by itself.
async fn a_durable_of_an_older_release(log: &Log) {
    let config = pull::Config {
        durable_name: Some(DURABLE.to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: reader::MAX_ACK_PENDING,
        max_deliver: -1,
        ..pull::Config::default()
    };
    let js = log.jetstream();
    js.create_consumer_on_stream(config, "EVT-00")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_durable_of_an_older_release_does_not_come_to_a_stop() {
    let one = log::one_node().await;
    a_durable_of_an_older_release(&one.log).await;
    let more = u64::try_from(reader::MAX_ACK_PENDING).unwrap() + 100;
    let mut feed = Feed::open(one.log.clone(), whole(), 0).await.unwrap();
    let mut acks = Vec::new();
    for _ in 0..more {
        let js = one.log.jetstream();
        let sent = js.publish("chat.evt.00.message.1", "x".into()).await;
        acks.push(sent.unwrap());
        // The client lets no more than some thousand be under way.
        if acks.len() == 500 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    for ack in acks {
        ack.await.unwrap();
    }
    for sequence in 1..=more {
        let next = timeout(reader::IDLE_CHECK * 2, feed.next()).await;
        assert_eq!(next.expect("goes on").unwrap().sequence, sequence);
        feed.folded(sequence).await;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let nothing_more = timeout(Duration::from_millis(300), feed.next()).await;
        assert!(nothing_more.is_err(), "that was the last one");
        let info = one.log.stream(partition()).consumer_info(DURABLE).await;
        let info = info.unwrap();
        // Offered by the durable itself, and not read around it because it had come to a stop.
        if info.ack_floor.stream_sequence == more {
            assert_eq!(info.config.ack_policy, AckPolicy::All);
            assert_eq!((info.num_pending, info.num_ack_pending), (0, 0));
            break;
        }
        assert!(Instant::now() < deadline, "the report says {info:?}");
    }
}
