//! What comes in, and what is redriven, has one part only: partition 0 of its leases, which stays with who was there first. Here
//! it becomes that of a process which a test may kill or freeze, and which nobody starts again.

use std::collections::BTreeSet;

use chat4all_cli::embedded::until_stopped;
use chat4all_service::clock;
use rustix::process::Signal;
use time::OffsetDateTime;

use super::site::{EVEN, Extra, Held, TAKEN_OVER, all_leases, kill, reached, shares};
use crate::guarantees::system::System;
use crate::support::up::send;

/// A process of the bridges beside that of `up`, with partition 0 of everything that they share. Killed when it is dropped, also
/// when it stands still.
pub struct Owner {
    extra: Extra,
    /// The one of `up`, as the leases call it.
    others: BTreeSet<String>,
}

impl Owner {
    /// Starts it, with these variables in place of those of the installation. The one of `up` stands still until the new one has
    /// everything, and then gets half of it back: the highest partitions.
    pub async fn start(system: &System, more: &[(&str, &str)]) -> Self {
        shared(system, &[8], "all at one").await;
        let others = workers(&bridges(system).await);
        let first = system.process("bridges").unwrap();
        send(first, Signal::STOP);
        let extra = Extra::start_with(system, "bridges", more).await;
        let look = async || bridges(system).await;
        reached("all at the new one", EVEN, look, |held| {
            full(held) && workers(held).is_disjoint(&others)
        })
        .await;
        send(first, Signal::CONT);
        shared(system, &[4, 4], "even with two").await;
        let held = bridges(system).await;
        let has_work = held.values().all(|leases| !others.contains(&leases[&0]));
        assert!(has_work, "partition 0 is the new one's: {held:?}");
        Self { extra, others }
    }

    /// It stands still; when the last of its threads was seen to.
    pub async fn freeze(&self) -> OffsetDateTime {
        self.extra.signal(Signal::STOP);
        until_stopped(&[self.extra.child.id()]).await;
        clock::now()
    }

    pub fn wake(&self) {
        self.extra.signal(Signal::CONT);
    }

    /// `kill -9`; when it was seen dead.
    pub async fn kill(&self) -> OffsetDateTime {
        kill(self.extra.child.id()).await
    }

    /// Waits until everything that it had is somebody else's, for as long as that may take.
    pub async fn is_replaced(&self, system: &System) {
        let look = async || bridges(system).await;
        reached("taken over", TAKEN_OVER, look, |held| {
            full(held) && workers(held).is_subset(&self.others)
        })
        .await;
    }

    /// Waits until it has its half again. What it had before is given back by then, and nobody works on that any more: until it is,
    /// the partition counts as one of its share.
    pub async fn is_back(&self, system: &System) {
        shared(system, &[4, 4], "even again").await;
    }
}

/// Waits until bridges have so many partitions each of everything that they share.
async fn shared(system: &System, wanted: &[usize], what: &str) {
    let look = async || bridges(system).await;
    reached(what, EVEN, look, |held| {
        held.values().all(|leases| shares(leases) == wanted)
    })
    .await;
}

/// Who has what, but for the projectors.
async fn bridges(system: &System) -> Held {
    let mut held = all_leases(system).await;
    held.remove("projector");
    held
}

fn full(held: &Held) -> bool {
    held.values().all(|leases| leases.len() == 8)
}

fn workers(held: &Held) -> BTreeSet<String> {
    held.values()
        .flat_map(|leases| leases.values().cloned())
        .collect()
}
