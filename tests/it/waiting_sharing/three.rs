//! Three workers of each role share everything that is shared: what goes out, what comes in, what is folded, and redrives. One of
//! each is killed under load, among them the one that works on redrives, and then the broker, which forgets all leases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_domain::{ConversationId, PartitionCount};
use serde_json::json;
use time::OffsetDateTime;

use super::load::{Load, all_the_same};
use super::site::{
    EVEN, Extra, TAKEN_OVER, all_leases, broker_is_back, even, kill, leases, reached, shares,
};
use crate::guarantees::system::{System, phone};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_workers_share_evenly_and_do_so_again_when_one_is_killed_and_when_the_broker_is() {
    let system = Arc::new(System::split().await);
    let latency = json!({"fault": {"kind": "latency", "ms": [50, 150]}});
    system.fault(latency).await;
    let mut projectors = Team::of("projector", "projector");
    let mut bridges = Team::of("bridges", "bridge-whatsapp");
    for team in [&mut projectors, &mut bridges] {
        team.grow(&system, &[4, 4]).await;
        team.grow(&system, &[2, 3, 3]).await;
    }
    even(&system, &[2, 3, 3], EVEN, "even with three").await;
    let load = Load::start(&system).await;
    load.goes_on().await;

    // One of each: whoever works on redrives, and a projector that nobody starts again.
    let redriver = leases(&system, "redrive").await[&0].clone();
    let projector = projectors.extras.keys().next().unwrap().clone();
    let mut changed = Instant::now();
    let killed = bridges.kill(&system, &redriver).await;
    projectors.kill(&system, &projector).await;
    let dead = [redriver, projector];
    let look = async || all_leases(&system).await;
    reached("taken over from the killed", TAKEN_OVER, look, |held| {
        held.values().all(|leases| {
            let mut workers = leases.values();
            leases.len() == 8 && workers.all(|worker| !dead.contains(worker))
        })
    })
    .await;
    for team in [&mut projectors, &mut bridges] {
        // `up` starts its own again, and nobody the others.
        if team.extras.len() < 2 {
            changed = team.grow(&system, &[2, 3, 3]).await;
        }
    }
    let left = EVEN.saturating_sub(changed.elapsed());
    even(&system, &[2, 3, 3], left, "even again after the kills").await;
    load.goes_on().await;

    let forgotten = kill(system.process("nats-server").unwrap()).await;
    let begun = Instant::now();
    broker_is_back(&system).await;
    let left = EVEN.saturating_sub(begun.elapsed());
    even(&system, &[2, 3, 3], left, "even again with another broker").await;
    load.goes_on().await;

    println!("{} posts had to be repeated", load.asked_again());
    let accepted = load.finish().await;
    all_the_same(&system, &accepted, &[killed, forgotten]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_have_half_each_when_nobody_starts_the_killed_third_again() {
    let system = System::split().await;
    let mut teams = [
        Team::of("projector", "projector"),
        Team::of("bridges", "bridge-whatsapp"),
    ];
    for team in &mut teams {
        team.grow(&system, &[4, 4]).await;
        team.grow(&system, &[2, 3, 3]).await;
    }
    even(&system, &[2, 3, 3], EVEN, "even with three").await;
    let [projectors, bridges] = &mut teams;
    let projector = projectors.extras.keys().next().unwrap().clone();
    let bridge = bridges.extras.keys().next().unwrap().clone();
    let groups = groups_in(&system, &partitions_of(&system, &bridge).await).await;
    let changed = Instant::now();
    projectors.kill(&system, &projector).await;
    let killed = bridges.kill(&system, &bridge).await;
    // Nothing was under way in these, so nothing else is waited for.
    for group in &groups {
        system.say("ana", group, "right after the kill").await;
    }
    let taken = async || system.taken().await;
    reached("all were handed over", EVEN, taken, |taken| {
        taken.len() == groups.len()
    })
    .await;
    for call in system.taken().await {
        let after = i128::from(call.at_unix_ms) * 1_000_000 - killed.unix_timestamp_nanos();
        let after = Duration::from_nanos(u64::try_from(after).unwrap());
        println!("{} was called {after:.1?} after the kill", call.to);
        assert!(after <= TAKEN_OVER, "{after:?}");
    }
    let left = EVEN.saturating_sub(changed.elapsed());
    even(&system, &[4, 4], left, "even again with two").await;
}

/// The partitions that a bridge has.
async fn partitions_of(system: &System, worker: &str) -> BTreeSet<u8> {
    let mut held = leases(system, "bridge-whatsapp").await;
    held.retain(|_, holder| holder == worker);
    held.into_keys().collect()
}

/// A group in each of these partitions, with one customer each, in which nothing was said yet.
async fn groups_in(system: &System, partitions: &BTreeSet<u8>) -> Vec<String> {
    let all = PartitionCount::new(8).unwrap();
    let (mut found, mut customer) = (BTreeMap::new(), 0);
    while found.len() < partitions.len() {
        customer += 1;
        let group = system.group("ana", &[phone(customer)]).await;
        let id: ConversationId = group.parse().unwrap();
        let partition = all.of(id.uuid()).number();
        if partitions.contains(&partition) {
            found.entry(partition).or_insert(group);
        }
    }
    found.into_values().collect()
}

/// The workers of a role, beside that of `up`.
struct Team {
    role: &'static str,
    /// Leases of which each of them has some.
    shares: &'static str,
    /// The process of each, by its name in the leases.
    extras: BTreeMap<String, Extra>,
}

impl Team {
    fn of(role: &'static str, shares: &'static str) -> Self {
        Self {
            role,
            shares,
            extras: BTreeMap::new(),
        }
    }

    /// One more, when it has its share; when it was started.
    async fn grow(&mut self, system: &System, wanted: &[usize]) -> Instant {
        let before: BTreeSet<_> = leases(system, self.shares).await.into_values().collect();
        let started = Instant::now();
        let extra = Extra::start(system, self.role).await;
        let look = async || leases(system, self.shares).await;
        let even = |leases: &BTreeMap<u8, String>| shares(leases) == wanted;
        reached(self.role, EVEN, look, even).await;
        let after: BTreeSet<_> = leases(system, self.shares).await.into_values().collect();
        let new: Vec<_> = after.difference(&before).cloned().collect();
        let [name] = &new[..] else {
            panic!("{new:?} are new");
        };
        self.extras.insert(name.clone(), extra);
        started
    }

    /// Kills the worker of that name; when it was seen dead.
    async fn kill(&mut self, system: &System, name: &str) -> OffsetDateTime {
        let extra = self.extras.remove(name);
        let pid = match &extra {
            Some(extra) => extra.child.id(),
            None => system.process(self.role).unwrap(),
        };
        kill(pid).await
    }
}
