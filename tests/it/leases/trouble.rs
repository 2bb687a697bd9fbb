//! A broker that hangs, and a worker that stands still.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::worker::{Worker, shares};
use crate::support::log::{layout, one_node, opened};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn while_the_broker_hangs_nothing_new_is_begun_and_afterwards_work_goes_on() {
    let node = one_node().await;
    let a = Worker::start(&node.nats.url(), "a");
    shares(&[&a], &[8], SOON).await;
    node.nats.suspend().await;
    let hung = Instant::now();
    while !a.may_start().is_empty() {
        let late = hung.elapsed() > Duration::from_millis(6_500);
        assert!(
            !late,
            "may still start {:?} after {:?}",
            a.may_start(),
            hung.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("nothing new after {:?}", hung.elapsed());
    while hung.elapsed() < Duration::from_secs(7) {
        assert_eq!(a.may_start(), BTreeSet::new(), "after {:?}", hung.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.nats.resume();
    shares(&[&a], &[8], SOON).await;
}

#[tokio::test]
async fn a_broker_that_restarts_has_forgotten_the_leases_and_they_are_taken_again() {
    let mut node = one_node().await;
    let a = Worker::start(&node.nats.url(), "a");
    shares(&[&a], &[8], SOON).await;
    let gained = a.gained();
    // What is in memory is gone with the process, the bucket too.
    node.nats.kill().await;
    node.nats.restart().await.unwrap();
    let begun = Instant::now();
    while a.gained() < gained + 8 || a.may_start().len() < 8 {
        assert!(
            begun.elapsed() < SOON,
            "{} of 8 taken again, {:?} may start",
            a.gained() - gained,
            a.may_start()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("all taken again after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_not_a_lost_lease() {
    let node = one_node().await;
    let a = Worker::start(&node.nats.url(), "a");
    shares(&[&a], &[8], SOON).await;
    let gained = a.gained();
    for hang in [4_000, 4_500] {
        node.nats.suspend().await;
        // Long enough for a renewal to be asked for, and its answer given up; shorter than a lease lasts.
        let hung = Instant::now();
        while hung.elapsed() < Duration::from_millis(hang) {
            assert_eq!(
                a.draining(),
                BTreeSet::new(),
                "nobody else could have taken it"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        node.nats.resume();
        // A whole round of renewals later everything is as it was.
        let resumed = Instant::now();
        while resumed.elapsed() < Duration::from_millis(4_500) {
            assert_eq!(
                a.draining(),
                BTreeSet::new(),
                "after {:?}",
                resumed.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shares(&[&a], &[8], SOON).await;
    }
    assert_eq!(a.gained(), gained, "nothing was taken anew");
}

#[tokio::test]
async fn what_was_taken_without_its_hearing_of_it_is_its_own() {
    let node = one_node().await;
    let log = opened(&node.nats.url(), "observer", &layout(1)).await;
    let leases = log.jetstream().get_key_value("LEASES").await.unwrap();
    // As it stands there when the answer to the taking was lost. It is kept alive, so that it never ages out and is never free.
    let entry = async || leases.put("test.03", "a".into()).await.unwrap();
    entry().await;
    let a = Worker::start(&node.nats.url(), "a");
    let begun = Instant::now();
    while !a.may_start().contains(&3) {
        assert!(begun.elapsed() < SOON, "it has {:?}", a.may_start());
        tokio::time::sleep(Duration::from_secs(2)).await;
        entry().await;
    }
    shares(&[&a], &[8], SOON).await;
}

#[tokio::test]
async fn a_worker_that_stood_still_finds_its_leases_lost_and_takes_nothing_from_others() {
    let node = one_node().await;
    let url = node.nats.url();
    let (a, b) = (Worker::start(&url, "a"), Worker::start(&url, "b"));
    shares(&[&a, &b], &[4, 4], SOON).await;
    let gained = a.gained();
    a.freeze(Duration::from_secs(16));
    let frozen = Instant::now();
    // While it stands still, the other takes over, and for no moment both may start.
    while b.may_start().len() < 8 {
        let both: Vec<_> = a
            .may_start()
            .intersection(&b.may_start())
            .copied()
            .collect();
        assert!(
            both.is_empty(),
            "both may start {both:?} after {:?}",
            frozen.elapsed()
        );
        let late = frozen.elapsed() > Duration::from_secs(15);
        assert!(!late, "b has only {:?}", b.may_start());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("taken over after {:?}", frozen.elapsed());
    assert_eq!(a.may_start(), BTreeSet::new());
    // It wakes: what it had is gone, and it gets its share anew.
    while !(a.may_start().len() == 4 && b.may_start().len() == 4) {
        let both: Vec<_> = a
            .may_start()
            .intersection(&b.may_start())
            .copied()
            .collect();
        assert!(
            both.is_empty(),
            "both may start {both:?} after {:?}",
            frozen.elapsed()
        );
        let late = frozen.elapsed() > Duration::from_secs(45);
        assert!(!late, "a has {:?}, b {:?}", a.may_start(), b.may_start());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(a.gained() >= gained + 4, "what it has now was given anew");
}
