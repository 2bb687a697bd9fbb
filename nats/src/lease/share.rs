//! What the bucket says about a role, and how many partitions each of its workers is to have.

use std::collections::{BTreeMap, BTreeSet};

use chat4all_domain::Partition;

use crate::direct::Stored;

/// What the bucket says about a role.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub workers: BTreeSet<String>,
    pub taken: BTreeMap<Partition, Entry>,
}

/// The entry of a partition that somebody has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub worker: String,
    pub revision: u64,
}

/// Worker r of n has P/n, and one more while r < P mod n.
pub(super) fn share(partitions: u8, workers: &BTreeSet<String>, worker: &str) -> usize {
    let (partitions, n) = (usize::from(partitions), workers.len());
    match workers.iter().position(|name| name == worker) {
        Some(r) => partitions / n + usize::from(r < partitions % n),
        // Our own entry has not shown up yet.
        None => 0,
    }
}

/// What these entries say; their subjects begin with `prefix`.
pub(super) fn seen(entries: &[Stored], prefix: &str) -> Seen {
    let mut seen = Seen::default();
    for entry in entries {
        // A deleted entry leaves a mark until it ages out.
        if entry.headers.get("KV-Operation").is_some() {
            continue;
        }
        let Some(key) = entry.subject.strip_prefix(prefix) else {
            continue;
        };
        match key.strip_prefix("worker.") {
            Some(worker) => drop(seen.workers.insert(worker.to_owned())),
            None => {
                let worker = String::from_utf8_lossy(&entry.payload).into_owned();
                let revision = entry.sequence;
                let partition = key.parse().ok().and_then(Partition::new);
                seen.taken
                    .extend(partition.map(|partition| (partition, Entry { worker, revision })));
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_exactly_one_worker_and_shares_differ_by_one_at_most() {
        for partitions in 1..=64 {
            for n in 1..=9_u8 {
                let workers: BTreeSet<_> = (0..n).map(|i| format!("w{i}")).collect();
                let shares: Vec<_> = workers
                    .iter()
                    .map(|w| share(partitions, &workers, w))
                    .collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(partitions));
                let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
                assert!(most - least <= 1, "{shares:?}");
            }
        }
        assert_eq!(share(8, &BTreeSet::new(), "w0"), 0);
    }
}
