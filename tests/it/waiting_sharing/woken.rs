//! A projector stands still with a batch in its hands, and another one takes over what it has and folds on. When it wakes, its
//! checkpoints are refused, and nothing of the batch is folded twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::until_stopped;
use chat4all_domain::Position;
use rustix::process::Signal;
use url::Url;

use super::load::all_the_same;
use super::site::{EVEN, Extra, PATIENCE, TAKEN_OVER, leases, reached, shares};
use crate::guarantees::system::{Answer, System, phone};
use crate::support::behind::level;
use crate::support::gate::Gate;
use crate::whole_system::{Messages, all_read, total};

/// A batch that took longer is given up by its own projector, which then asks nobody.
const BATCH_WITHIN: Duration = Duration::from_secs(30);
/// What a projector says whose checkpoint was refused.
const REFUSED: &str = "a checkpoint was moved by another projector";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_projector_that_wakes_with_an_old_batch_is_refused_and_folds_nothing_twice() {
    let system = System::split().await;
    let look = async || leases(&system, "projector").await;
    reached("all at one", EVEN, look, |leases| shares(leases) == [8]).await;
    let stays: BTreeSet<_> = look().await.into_values().collect();
    let (gate, url) = gate_to_postgres(&system).await;
    let at_gate = [("CHAT4ALL_POSTGRES__URL", url.as_str())];
    let extra = Extra::start_with(&system, "projector", &at_gate).await;
    reached("even with two", EVEN, look, |leases| {
        shares(leases) == [4, 4]
    })
    .await;
    let held = look().await;
    let theirs = held.iter().find(|(_, worker)| !stays.contains(*worker));
    let partition = theirs.expect("it has four").0;

    // Every partition has been folded by who has it now, and then there is nothing to do.
    let mut told = Messages::new();
    let groups = group_of_each_partition(&system, &mut told).await;
    level(&system.env).await;
    gate.close();
    say(&system, &groups[partition], &mut told).await;
    gate.keeps("BEGIN").await;
    extra.signal(Signal::STOP);
    until_stopped(&[extra.child.id()]).await;
    let frozen = Instant::now();
    let refusals = || extra.said().matches(REFUSED).count();
    let before = refusals();

    reached("taken over", TAKEN_OVER, look, |leases| {
        leases.len() == 8 && leases.values().all(|worker| stays.contains(worker))
    })
    .await;
    say(&system, &groups[partition], &mut told).await;
    all_read(&system, total(&told)).await;
    gate.open();
    extra.signal(Signal::CONT);
    assert!(frozen.elapsed() < BATCH_WITHIN, "it woke too late");
    let refused = async || refusals();
    reached("refused", PATIENCE, refused, |count| *count > before).await;

    // It goes on where the other one has come to.
    reached("even again", EVEN, look, |leases| shares(leases) == [4, 4]).await;
    for group in groups.values() {
        say(&system, group, &mut told).await;
    }
    all_the_same(&system, &told, &[]).await;
}

/// A gate in front of the database, and the database's address through it.
async fn gate_to_postgres(system: &System) -> (Gate, String) {
    let mut url: Url = system.env["CHAT4ALL_POSTGRES__URL"].parse().unwrap();
    let gate = Gate::start(url.port().unwrap()).await;
    url.set_port(Some(gate.port())).unwrap();
    (gate, url.to_string())
}

/// A group in each partition, in which a message was said and read, with the time of every step.
async fn group_of_each_partition(system: &System, told: &mut Messages) -> BTreeMap<u8, String> {
    let (mut groups, mut all) = (BTreeMap::new(), Vec::new());
    for i in 0..1_000 {
        if groups.len() == 8 {
            break;
        }
        let group = system.group("ana", &[phone(i)]).await;
        let accepted = say(system, &group, told).await;
        let position: Position = accepted.text("position").parse().unwrap();
        groups.insert(position.partition.number(), group);
        all.push(accepted);
    }
    assert_eq!(groups.len(), 8);
    for accepted in &all {
        system.read("ana", accepted).await;
    }
    groups
}

async fn say(system: &System, group: &str, told: &mut Messages) -> Answer {
    let accepted = system.say("ana", group, "hello").await;
    let messages = told.entry(group.to_owned()).or_default();
    messages.push(accepted.text("message_id"));
    accepted
}
