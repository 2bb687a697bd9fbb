//! States that were loaded or written lately. A cached state may be behind: it may only lead to an append, whose expected
//! revision is checked by the broker.
//!
//! An entry is replaced by a higher revision alone. [`Cache::outdated`] leaves a mark behind, so that a load which began
//! before somebody's event and ends after it cannot bring the old state back.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard};

use chat4all_domain::{Aggregate, Revision};
use lru::{DefaultHasher, LruCache};

use crate::load::Loaded;

/// How many states of one aggregate type are kept.
pub const DEFAULT_CAPACITY: u64 = 100_000;
/// Parts with a lock each, so that threads seldom wait for one another.
const SHARDS: usize = 16;

/// The states of one aggregate type.
#[derive(Debug)]
pub struct Cache<A: Aggregate> {
    shards: [Mutex<Shard<A>>; SHARDS],
    hasher: DefaultHasher,
    /// How many entries a shard may have.
    capacity: usize,
}

/// Least recently used first to go, and nothing cleverer: a mark must never be turned away at the door.
type Shard<A> = LruCache<<A as Aggregate>::Id, Entry<A>>;

#[derive(Debug)]
struct Entry<A> {
    /// It has at least this revision.
    at_least: Revision,
    /// Its state, unless it is known to be behind.
    loaded: Option<Arc<Loaded<A>>>,
}

impl<A: Aggregate> Cache<A> {
    /// Room for about `capacity` states; of those that share a part the least recently used goes first.
    pub fn new(capacity: u64) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        Self {
            // Bounded by `keep`: a bounded one would take its memory at once.
            shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())),
            hasher: DefaultHasher::default(),
            capacity: capacity.div_ceil(SHARDS),
        }
    }

    /// The state, if it is here.
    pub fn get(&self, id: &A::Id) -> Option<Arc<Loaded<A>>> {
        let mut shard = self.shard(id);
        shard.get(id).and_then(|entry| entry.loaded.clone())
    }

    /// Keeps `loaded`, unless something newer is known. Returns it shared.
    pub fn put(&self, id: &A::Id, loaded: Loaded<A>) -> Arc<Loaded<A>> {
        let loaded = Arc::new(loaded);
        let new = Entry {
            at_least: loaded.revision,
            loaded: Some(Arc::clone(&loaded)),
        };
        self.keep(id, new, |old, new| old > new);
        loaded
    }

    /// Somebody wrote `revision`: what is older is of no use.
    pub fn outdated(&self, id: &A::Id, revision: Revision) {
        let mark = Entry {
            at_least: revision,
            loaded: None,
        };
        self.keep(id, mark, |old, new| old >= new);
    }

    /// Nobody knows what an append did: the state is of no use.
    pub fn evict(&self, id: &A::Id) {
        if let Some(entry) = self.shard(id).get_mut(id) {
            entry.loaded = None;
        }
    }

    /// As [`Cache::evict`], for every id that `which` names.
    pub fn evict_all(&self, which: impl Fn(&A::Id) -> bool) {
        for shard in &self.shards {
            let mut shard = locked(shard);
            let named = shard.iter_mut().filter(|(id, _)| which(id));
            named.for_each(|(_, entry)| entry.loaded = None);
        }
    }

    /// `new` takes the place of what is there, unless that `is_newer` (its revision, the new one's).
    fn keep(&self, id: &A::Id, new: Entry<A>, is_newer: impl Fn(Revision, Revision) -> bool) {
        let mut shard = self.shard(id);
        if let Some(old) = shard.get_mut(id) {
            if !is_newer(old.at_least, new.at_least) {
                *old = new;
            }
            return;
        }
        shard.put(id.clone(), new);
        if shard.len() > self.capacity {
            shard.pop_lru();
        }
    }

    fn shard(&self, id: &A::Id) -> MutexGuard<'_, Shard<A>> {
        let shard = self.hasher.hash_one(id) % SHARDS as u64;
        locked(&self.shards[usize::try_from(shard).expect("less than the number of shards")])
    }
}

fn locked<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard
        .lock()
        .expect("no code panics while it holds this lock")
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

    #[test]
    fn when_there_is_no_room_the_one_that_nobody_asked_for_longest_goes() {
        let ids: Vec<_> = (10..1_010_u64)
            .map(|n| reader::Id {
                participant: format!("0191e2f4-7c1e-7a3b-8f00-{n:012x}").parse().unwrap(),
                ..id()
            })
            .collect();
        let cache = Cache::<Reader>::new(160);
        cache.put(&id(), at(1));
        for one in &ids {
            cache.put(one, at(2));
            assert_eq!(cached(&cache), Some(1), "asked for all the time");
        }
        let kept = ids.iter().filter(|one| cache.get(one).is_some()).count();
        assert!((100..160).contains(&kept), "{kept} of 1,000 are kept");
        assert!(cache.get(&ids[999]).is_some(), "the last one came last");
        cache.evict_all(|one| *one == id());
        assert_eq!(cached(&cache), None);
        assert!(cache.get(&ids[999]).is_some(), "another one stays");
    }
}
