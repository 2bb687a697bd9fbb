//! Two projectors and two bridges share the work; one of each stands still for a minute and wakes, and in that minute one of
//! each is killed, and one is asked to stop, under load all the time. How long it took until somebody else was at work is read
//! from the log's own times, and printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::delivery::Event;
use chat4all_nats::Change;
use chat4all_service::clock;
use rustix::process::Signal;
use serde_json::json;
use time::OffsetDateTime;

use super::load::{Load, all_the_same};
use super::site::{EVEN, Extra, GivenBack, TAKEN_OVER, all_leases, leases, reached, shares};
use crate::guarantees::system::{Logged, System};

/// The roles, and what their leases are called.
const ROLES: [(&str, &str); 2] = [("projector", "projector"), ("bridges", "bridge-whatsapp")];
/// How long a worker stands still.
const FROZEN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_stood_still_one_that_died_and_one_that_stopped_do_no_harm() {
    let system = Arc::new(System::split().await);
    let latency = json!({"fault": {"kind": "latency", "ms": [50, 150]}});
    system.fault(latency).await;
    let first = workers(&system).await;
    let extras = both(&system).await;
    let second = theirs(&system, &first).await;
    let load = Load::start(&system).await;
    load.goes_on().await;

    extras.iter().for_each(|extra| extra.signal(Signal::STOP));
    let (frozen, since) = (clock::now(), tokio::time::Instant::now());
    all_have(&system, &[8], TAKEN_OVER, "taken over from the frozen").await;

    // In the minute that these stand still, others are killed, and others stop.
    let others = both(&system).await;
    let third = theirs(&system, &first).await;
    load.goes_on().await;
    others.iter().for_each(|extra| extra.signal(Signal::KILL));
    let killed = clock::now();
    all_have(&system, &[8], TAKEN_OVER, "taken over from the killed").await;
    drop(others);
    let others = both(&system).await;
    let fourth = theirs(&system, &first).await;
    load.goes_on().await;
    let given_back = GivenBack::listen(&system).await;
    let mut theirs = all_leases(&system).await;
    theirs.retain(|shared, _| ROLES.iter().any(|(_, of_role)| of_role == shared));
    for leases in theirs.values_mut() {
        leases.retain(|_, worker| fourth.contains(worker));
    }
    others.iter().for_each(|extra| extra.signal(Signal::TERM));
    let stopped = clock::now();
    // How soon is asked by `clean_stop`, with less to do meanwhile.
    all_have(&system, &[8], EVEN, "given over by the stopped").await;
    given_back.all_of(&theirs).await;
    for mut extra in others {
        let status = tokio::task::spawn_blocking(move || extra.child.wait().unwrap());
        assert!(status.await.unwrap().success());
    }

    tokio::time::sleep_until(since + FROZEN).await;
    let woken = clock::now();
    extras.iter().for_each(|extra| extra.signal(Signal::CONT));
    all_have(&system, &[4, 4], EVEN, "even again after it woke").await;
    load.goes_on().await;

    assert_eq!(load.asked_again(), 0, "the log was there all the time");
    let accepted = load.finish().await;
    let log = all_the_same(&system, &accepted, &[frozen, killed]).await;
    let before = owners(&log, &second, |made| made < frozen);
    let after = owners(&log, &second, |made| made >= woken);
    println!("the frozen one was {before:?} before, and {after:?} after");
    let worked = !before.is_empty() && !after.is_empty();
    assert!(worked, "it worked before, and again after");
    // Its leases were lost meanwhile: what it owned when it was frozen it attempts no more, and what it owns now it was given anew.
    assert!(before.is_disjoint(&after), "as if nothing had happened");
    for (what, gone, moment) in [
        ("SIGSTOP", &second, frozen),
        ("SIGKILL", &third, killed),
        ("SIGTERM", &fourth, stopped),
    ] {
        taken_over(&log, what, gone, moment);
    }
}

/// By the log's own times: somebody else made the next attempt in each partition that these had, and how long after `moment`.
/// Where every lane had a call in flight, it is first waited for (15 s) whether that arrived.
fn taken_over(log: &[Logged], what: &str, gone: &BTreeSet<String>, moment: OffsetDateTime) {
    let (mut last, mut seconds) = (BTreeMap::new(), BTreeMap::new());
    for (at, _, owner) in attempts(log) {
        let mut owner = owner.split('/');
        let (worker, partition) = (owner.next().unwrap(), owner.next().unwrap());
        if at <= moment {
            last.insert(partition, worker);
        } else if !gone.contains(worker) {
            let after = (at - moment).as_seconds_f64();
            seconds.entry(partition).or_insert(after);
        }
    }
    last.retain(|_, worker| gone.contains(*worker));
    seconds.retain(|partition, _| last.contains_key(partition));
    println!(
        "after {what}, seconds until somebody else's first attempt, by partition: {seconds:.1?}"
    );
    assert!(!last.is_empty(), "they had attempted nothing");
    assert_eq!(
        seconds.len(),
        last.len(),
        "not all of {last:?} were taken over"
    );
}

/// Another process of both roles, when they have their share.
async fn both(system: &System) -> Vec<Extra> {
    let mut extras = Vec::new();
    for (role, _) in ROLES {
        extras.push(Extra::start(system, role).await);
    }
    all_have(system, &[4, 4], EVEN, "even with two").await;
    extras
}

async fn all_have(system: &System, wanted: &[usize], within: Duration, what: &str) {
    let look = async || {
        let mut all = BTreeMap::new();
        for (role, leases_of) in ROLES {
            all.insert(role, shares(&leases(system, leases_of).await));
        }
        all
    };
    reached(what, within, look, |all| {
        all.values().all(|shares| shares == wanted)
    })
    .await;
}

/// Who has leases now, beside `first`.
async fn theirs(system: &System, first: &BTreeSet<String>) -> BTreeSet<String> {
    let mut all = workers(system).await;
    all.retain(|worker| !first.contains(worker));
    all
}

/// Who has leases now.
async fn workers(system: &System) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (_, leases_of) in ROLES {
        all.extend(leases(system, leases_of).await.into_values());
    }
    all
}

/// As whom (`worker/partition/tenure`) these workers made their attempts of some time, by their own clock: what is in the socket
/// when one is stopped is stored later.
fn owners<'a>(
    log: &'a [Logged],
    workers: &BTreeSet<String>,
    then: impl Fn(OffsetDateTime) -> bool,
) -> BTreeSet<&'a str> {
    let theirs = attempts(log).filter(|(_, made, owner)| {
        let worker = owner.split('/').next().unwrap();
        workers.contains(worker) && then(*made)
    });
    theirs.map(|(_, _, owner)| owner).collect()
}

/// Every attempt: when the broker stored it, when it was made, and by whom (`worker/partition/tenure`).
fn attempts(log: &[Logged]) -> impl Iterator<Item = (OffsetDateTime, OffsetDateTime, &str)> {
    log.iter().flat_map(|logged| {
        let events = match &logged.change {
            Change::Delivery(_, events) => &events[..],
            _ => &[],
        };
        events.iter().filter_map(|recorded| match &recorded.event {
            Event::Attempted { facts } => {
                let made = facts.occurred_at.to_datetime();
                Some((logged.stored_at, made, facts.owner.as_str()))
            }
            _ => None,
        })
    })
}
