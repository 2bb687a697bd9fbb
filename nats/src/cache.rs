//! States that were loaded or written lately. A cached state may be behind: it may only lead to an append, whose expected
//! revision is checked by the broker.
//!
//! An entry is replaced by a higher revision alone. [`Cache::outdated`] leaves a mark behind, so that a load which began
//! before somebody's event and ends after it cannot bring the old state back.

use std::sync::Arc;

use chat4all_domain::{Aggregate, Revision};
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;

use crate::load::Loaded;

/// How many states of one aggregate type are kept.
pub const DEFAULT_CAPACITY: u64 = 100_000;

/// The states of one aggregate type.
#[derive(Debug)]
pub struct Cache<A: Aggregate> {
    entries: moka::sync::Cache<A::Id, Entry<A>>,
}

#[derive(Debug)]
struct Entry<A> {
    /// It has at least this revision.
    at_least: Revision,
    /// Its state, unless it is known to be behind.
    loaded: Option<Arc<Loaded<A>>>,
}

impl<A> Clone for Entry<A> {
    fn clone(&self) -> Self {
        Self {
            at_least: self.at_least,
            loaded: self.loaded.clone(),
        }
    }
}

impl<A: Aggregate> Cache<A> {
    /// Room for `capacity` states; the least recently used goes first.
    pub fn new(capacity: u64) -> Self {
        // Least recently used, and nothing cleverer: a mark must never be turned away at the door.
        let entries = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries }
    }

    /// The state, if it is here.
    pub fn get(&self, id: &A::Id) -> Option<Arc<Loaded<A>>> {
        self.entries.get(id).and_then(|entry| entry.loaded)
    }

    /// Keeps `loaded`, unless something newer is known. Returns it shared.
    pub fn put(&self, id: &A::Id, loaded: Loaded<A>) -> Arc<Loaded<A>> {
        let loaded = Arc::new(loaded);
        let new = Entry {
            at_least: loaded.revision,
            loaded: Some(Arc::clone(&loaded)),
        };
        self.entries
            .entry_by_ref(id)
            .and_compute_with(|old| match old {
                Some(old) if old.value().at_least > new.at_least => Op::Nop,
                Some(_) | None => Op::Put(new),
            });
        loaded
    }

    /// Somebody wrote `revision`: what is older is of no use.
    pub fn outdated(&self, id: &A::Id, revision: Revision) {
        self.entries
            .entry_by_ref(id)
            .and_compute_with(|old| match old {
                Some(old) if old.value().at_least >= revision => Op::Nop,
                Some(_) | None => Op::Put(Entry {
                    at_least: revision,
                    loaded: None,
                }),
            });
    }

    /// Nobody knows what an append did: the state is of no use.
    pub fn evict(&self, id: &A::Id) {
        self.entries
            .entry_by_ref(id)
            .and_compute_with(|old| match old {
                Some(old) => Op::Put(Entry {
                    at_least: old.value().at_least,
                    loaded: None,
                }),
                None => Op::Nop,
            });
    }

    /// As [`Cache::evict`], for every id that `which` names.
    pub fn evict_all(&self, which: impl Fn(&A::Id) -> bool) {
        self.entries
            .iter()
            .filter(|(id, _)| which(id))
            .for_each(|(id, _)| self.evict(&id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_domain::{Reader, reader};

    fn id() -> reader::Id {
        reader::Id {
            conversation: "0191e2f4-7c1e-7a3b-8f00-000000000001".parse().unwrap(),
            participant: "0191e2f4-7c1e-7a3b-8f00-000000000002".parse().unwrap(),
        }
    }

    fn at(revision: u64) -> Loaded<Reader> {
        Loaded {
            revision: Revision::new(revision),
            ..Loaded::default()
        }
    }

    fn cached(cache: &Cache<Reader>) -> Option<u64> {
        cache.get(&id()).map(|loaded| loaded.revision.get())
    }

    #[test]
    fn a_higher_revision_alone_replaces_an_entry() {
        let cache = Cache::<Reader>::new(10);
        cache.put(&id(), at(5));
        cache.put(&id(), at(4));
        assert_eq!(cached(&cache), Some(5));
        cache.put(&id(), at(6));
        assert_eq!(cached(&cache), Some(6));
    }

    #[test]
    fn a_load_that_began_before_an_event_cannot_bring_the_old_state_back() {
        let cache = Cache::<Reader>::new(10);
        cache.outdated(&id(), Revision::new(7));
        cache.put(&id(), at(5));
        assert_eq!(cached(&cache), None);
        cache.put(&id(), at(7));
        assert_eq!(cached(&cache), Some(7));
    }

    #[test]
    fn news_of_ones_own_event_keeps_the_entry() {
        let cache = Cache::<Reader>::new(10);
        cache.put(&id(), at(7));
        cache.outdated(&id(), Revision::new(7));
        assert_eq!(cached(&cache), Some(7));
    }

    #[test]
    fn an_evicted_entry_still_remembers_how_far_the_aggregate_is() {
        let cache = Cache::<Reader>::new(10);
        cache.put(&id(), at(7));
        cache.evict(&id());
        cache.put(&id(), at(6));
        assert_eq!(cached(&cache), None);
    }
}
