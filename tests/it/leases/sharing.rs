//! Workers come, go and are killed, on a healthy broker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::worker::{Worker, shares};
use crate::support::log::one_node;

/// A change settles within this on an idle machine in 3 s; the promise is 30 s.
const SOON: Duration = Duration::from_secs(30);
/// What a clean stop gives back is somebody else's within this.
const CLEAN_STOP: Duration = Duration::from_secs(2);
/// The same on a machine that has something else to do for a moment.
const LONGEST_STOP: Duration = Duration::from_secs(5);

#[tokio::test]
async fn partitions_are_shared_evenly_by_one_two_three_and_one_again() {
    let node = one_node().await;
    let url = node.nats.url();
    let a = Worker::start(&url, "a");
    let watch = Watch::default();
    watch.during(&[&a], shares(&[&a], &[8], SOON)).await;
    let b = Worker::start(&url, "b");
    watch
        .during(&[&a, &b], shares(&[&a, &b], &[4, 4], SOON))
        .await;
    let c = Worker::start(&url, "c");
    watch
        .during(&[&a, &b, &c], shares(&[&a, &b, &c], &[2, 3, 3], SOON))
        .await;
    // They look at the bucket every second, and nothing moves.
    let quiet = tokio::time::sleep(Duration::from_secs(2));
    watch.during(&[&a, &b, &c], quiet).await;

    // Three clean stops: a busy machine may spoil one.
    let first = watch.stop(&c, &[&a, &b], &[4, 4]).await;
    let d = Worker::start(&url, "d");
    watch
        .during(&[&a, &b, &d], shares(&[&a, &b, &d], &[2, 3, 3], SOON))
        .await;
    let second = watch.stop(&d, &[&a, &b], &[4, 4]).await;
    let third = watch.stop(&b, &[&a], &[8]).await;
    println!("clean stops took {first:?}, {second:?} and {third:?}");
    let fastest = first.min(second).min(third);
    assert!(fastest <= CLEAN_STOP, "the fastest took {fastest:?}");
    assert!(watch.looks() > 500, "looked only {} times", watch.looks());
    println!("{} looks, never two at a time", watch.looks());
}

#[tokio::test]
async fn a_surplus_is_given_up_only_when_its_work_is_done() {
    let node = one_node().await;
    let url = node.nats.url();
    let a = Worker::start(&url, "a");
    shares(&[&a], &[8], SOON).await;
    a.busy_with(0..8);
    let b = Worker::start(&url, "b");
    until("a is asked for four", SOON, || {
        (a.draining().len() == 4).then_some(a.draining())
    })
    .await;
    assert_eq!(
        a.may_start().len(),
        4,
        "nothing new is begun on what was asked back"
    );
    // Longer than a lease lasts: it is renewed while its work goes on, and b does not get it.
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(11) {
        assert_eq!(b.may_start(), BTreeSet::new());
        assert_eq!(a.draining().len(), 4);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drained = a.draining();
    a.busy_with([]);
    shares(&[&a, &b], &[4, 4], SOON).await;
    assert_eq!(b.may_start(), drained);
}

#[tokio::test]
async fn who_stops_with_work_left_holds_up_only_that_work() {
    let node = one_node().await;
    let url = node.nats.url();
    let (a, b) = (Worker::start(&url, "a"), Worker::start(&url, "b"));
    shares(&[&a, &b], &[4, 4], SOON).await;
    let (before, late) = (b.may_start(), *a.may_start().first().unwrap());
    a.busy_with([late]);
    a.stop();
    let free: BTreeSet<_> = (0..8).filter(|partition| *partition != late).collect();
    until(
        "b has what a gave back at once",
        Duration::from_secs(5),
        || {
            let startable = b.may_start();
            (startable == free).then_some(startable)
        },
    )
    .await;
    assert!(before.is_subset(&free));
    assert_eq!(a.draining(), BTreeSet::from([late]));
    a.busy_with([]);
    shares(&[&b], &[8], SOON).await;
}

#[tokio::test]
async fn what_a_killed_worker_had_is_taken_within_fifteen_seconds() {
    let node = one_node().await;
    let url = node.nats.url();
    let (a, b) = (Worker::start(&url, "a"), Worker::start(&url, "b"));
    shares(&[&a, &b], &[4, 4], SOON).await;
    a.kill();
    shares(&[&b], &[8], Duration::from_secs(15)).await;
}

/// Looks, while something happens, whether two may start on one partition.
#[derive(Default)]
struct Watch {
    looks: std::sync::atomic::AtomicU64,
}

impl Watch {
    async fn during(&self, workers: &[&Worker], what: impl Future<Output = ()>) {
        let watching = async {
            loop {
                for (i, one) in workers.iter().enumerate() {
                    for other in &workers[i + 1..] {
                        // Asked twice around: what moved from one to the other in between was never with both.
                        let (first, second, again) =
                            (one.may_start(), other.may_start(), one.may_start());
                        let both: Vec<_> = first
                            .iter()
                            .filter(|p| second.contains(p) && again.contains(p))
                            .collect();
                        assert!(
                            both.is_empty(),
                            "{} and {} have {both:?}",
                            one.name,
                            other.name
                        );
                    }
                }
                self.looks
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = what => {}
            () = watching => unreachable!("watching has no end"),
        }
    }
    /// How long it takes from a clean stop until those who are left share everything like this.
    async fn stop(&self, leaves: &Worker, left: &[&Worker], wanted: &[usize]) -> Duration {
        let all = [left, &[leaves]].concat();
        let begun = Instant::now();
        leaves.stop();
        self.during(&all, shares(left, wanted, LONGEST_STOP)).await;
        begun.elapsed()
    }
    fn looks(&self) -> u64 {
        self.looks.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn until<T>(what: &str, within: Duration, mut is: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
