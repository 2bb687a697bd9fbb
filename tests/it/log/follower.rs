//! The follower: what others append is seen, and while it may not be, nobody believes the cache.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chat4all_domain::delivery::Operation;
use chat4all_domain::{Delivery, Partition, Position};
use chat4all_nats::Store;
use chat4all_nats::follower::Follower;
use futures::TryStreamExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::deliveries::{attempt, id, store};
use crate::support::log::{OneNode, context, layout, one_node, opened};
use crate::support::proxy::Proxy;

/// Somebody who follows, through a proxy, and somebody who writes.
struct Scene {
    node: OneNode,
    proxy: Proxy,
    theirs: Store<Delivery>,
    ours: Store<Delivery>,
    follower: Follower<Delivery>,
    partition: Partition,
    _stop: tokio_util::sync::DropGuard,
}

impl Scene {
    async fn start() -> Self {
        let node = one_node().await;
        let proxy = Proxy::start(node.nats.port(), 0, 1).await;
        let behind = opened(&proxy.url(), "follower", &layout(1)).await;
        let (theirs, ours) = (store(&node.log), store(&behind));
        let stop = CancellationToken::new();
        let follower = Follower::start(ours.clone(), &TaskTracker::new(), &stop);
        let partition = node.log.partition_of(&id(1));
        let scene = Self {
            node,
            proxy,
            theirs,
            ours,
            follower,
            partition,
            _stop: stop.drop_guard(),
        };
        scene.until_current(true).await;
        scene
    }

    async fn until_current(&self, wanted: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.follower.is_current(self.partition) != wanted {
            assert!(Instant::now() < deadline, "current: {} for 20 s", !wanted);
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// The last attempt, as the follower's process knows it.
    async fn attempts(&self) -> u32 {
        attempts(&self.follower).await
    }
}

async fn attempts(follower: &Follower<Delivery>) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(20);
    let loaded = follower.state(&id(1), deadline).await.unwrap();
    loaded.state.entry(0, Operation::Send).attempts
}

#[tokio::test]
async fn what_somebody_else_changed_is_seen() {
    let scene = Scene::start().await;
    let (theirs, ours) = (&scene.theirs, &scene.ours);
    for number in 1..=20 {
        let command = attempt(0, number, "theirs");
        let written = theirs.execute(&id(1), command, context(10)).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        assert!(
            scene.follower.reach(written.position, deadline).await,
            "seen up to {number}"
        );
        let cached = ours.cached(&id(1)).map(|loaded| loaded.revision);
        assert_eq!(cached, None, "what is older is forgotten");
        assert_eq!(scene.attempts().await, number);
        // And kept, now that it is known: the next question needs no broker.
        let cached = ours.cached(&id(1)).map(|loaded| loaded.revision);
        assert_eq!(cached, Some(written.revision));
    }
    // Positions of others in the same partition are reached too.
    let other = (2..)
        .map(id)
        .find(|id| scene.node.log.partition_of(id) == scene.partition)
        .unwrap();
    let written = theirs
        .execute(&other, attempt(0, 1, "theirs"), context(10))
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(scene.follower.reach(written.position, deadline).await);
}

#[tokio::test]
async fn a_position_that_the_log_has_not_come_to_is_waited_for() {
    let (scene, one) = (Scene::start().await, id(1));
    let written = scene
        .theirs
        .execute(&one, attempt(0, 1, "theirs"), context(10));
    let last = written.await.unwrap().position;
    let next = Position::new(last.partition, last.sequence + 1);
    let deadline = Instant::now() + Duration::from_millis(300);
    assert!(!scene.follower.reach(next, deadline).await);
    // Somebody waits, and then it comes.
    let deadline = Instant::now() + Duration::from_secs(10);
    let coming = scene
        .theirs
        .execute(&one, attempt(0, 2, "theirs"), context(10));
    let (reached, came) = tokio::join!(scene.follower.reach(next, deadline), coming);
    assert!(reached);
    assert_eq!(came.unwrap().position, next);
}

#[tokio::test]
async fn what_was_known_before_anybody_followed_is_not_believed() {
    let node = one_node().await;
    let other = opened(&node.nats.url(), "other", &layout(1)).await;
    let (ours, theirs) = (store(&node.log), store(&other));
    ours.execute(&id(1), attempt(0, 1, "ours"), context(10))
        .await
        .unwrap();
    theirs
        .execute(&id(1), attempt(0, 2, "theirs"), context(10))
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let follower = Follower::start(ours, &TaskTracker::new(), &stop);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !follower.is_current(node.log.partition_of(&id(1))) {
        assert!(Instant::now() < deadline, "never current");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(attempts(&follower).await, 2);
    stop.cancel();
}

#[tokio::test]
async fn what_one_writes_oneself_stays_known() {
    let scene = Scene::start().await;
    let written = scene
        .ours
        .execute(&id(1), attempt(0, 1, "ours"), context(10))
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(scene.follower.reach(written.position, deadline).await);
    let cached = scene.ours.cached(&id(1)).map(|loaded| loaded.revision);
    assert_eq!(cached, Some(written.revision));
}

#[tokio::test]
async fn with_the_broker_away_or_hung_the_cache_is_not_believed() {
    let mut scene = Scene::start().await;
    scene
        .theirs
        .execute(&id(1), attempt(0, 1, "theirs"), context(10))
        .await
        .unwrap();
    assert_eq!(scene.attempts().await, 1);

    scene.node.nats.suspend().await;
    let hung = Instant::now();
    scene.until_current(false).await;
    println!("a hung broker was noticed after {:?}", hung.elapsed());
    let soon = Instant::now() + Duration::from_millis(500);
    let answer = scene.follower.state(&id(1), soon).await;
    assert!(answer.is_err(), "the leader was not asked: {answer:?}");
    scene.node.nats.resume();
    scene.until_current(true).await;
    assert_eq!(scene.attempts().await, 1);

    scene.node.nats.kill().await;
    scene.until_current(false).await;
    scene.node.nats.restart().await.unwrap();
    let (one, command) = (id(1), attempt(0, 2, "theirs"));
    let written = scene.theirs.execute(&one, command, context(20));
    let written = written.await.unwrap();
    // It may have been level before that was written: then it comes a moment later.
    let deadline = Instant::now() + Duration::from_secs(20);
    assert!(scene.follower.reach(written.position, deadline).await);
    scene.until_current(true).await;
    assert_eq!(scene.attempts().await, 2);
}

/// A broker that was away has no consumer of its memory and no open request any more. Until whoever follows has asked anew, what
/// others append does not come, and nothing says so.
#[tokio::test]
async fn after_a_restart_of_the_broker_the_cache_is_believed_only_when_it_was_asked_anew() {
    let mut scene = Scene::start().await;
    for number in 1..=3 {
        scene.node.nats.kill().await;
        scene.until_current(false).await;
        scene.node.nats.restart().await.unwrap();
        scene.until_current(true).await;
        let stream = scene.node.log.stream(scene.partition);
        let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        let follows = |name: &String| name.starts_with("follow-delivery-");
        assert!(names.iter().any(follows), "restart {number}: {names:?}");
    }
}

/// What was on its way when a connection broke is lost without a word: no error, no gap, no missed heartbeat.
#[tokio::test]
async fn after_a_reconnect_the_cache_is_believed_only_when_the_log_was_asked() {
    let scene = Scene::start().await;
    let connects = scene.ours.log().client().statistics();
    for number in 1..=8 {
        let known = scene.attempts().await;
        assert_eq!(known, number - 1);
        scene.until_current(true).await;
        scene.proxy.swallow(true);
        scene
            .theirs
            .execute(&id(1), attempt(0, number, "theirs"), context(10))
            .await
            .unwrap();
        scene.proxy.has_swallowed(".delivery.whatsapp.").await;
        let before = connects.connects.load(Ordering::SeqCst);
        scene.proxy.swallow(false);
        scene.proxy.cut_all();
        let deadline = Instant::now() + Duration::from_secs(20);
        while connects.connects.load(Ordering::SeqCst) == before || !scene.ours.log().is_connected()
        {
            assert!(Instant::now() < deadline, "not connected again");
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(scene.attempts().await, number, "right after the reconnect");
        scene.until_current(true).await;
        assert_eq!(scene.attempts().await, number, "when it is believed again");
    }
}
