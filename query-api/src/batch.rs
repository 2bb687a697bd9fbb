//! Loading for a whole page at once: what a page's items ask for one by one becomes one statement.
//!
//! Each [`Batch::load`] puts its key among those of the open round; when the round ends ([`crate::rounds`]), the first of
//! those who asked loads for all of them. The guarantee is about *how many* statements, not about a snapshot: two batches may
//! see different commits.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::rounds::Rounds;

/// Collects keys of one kind within one request. `E` is what every waiter is told when the load fails.
pub struct Batch<K, V, E> {
    rounds: Rounds,
    open: Mutex<Arc<Asked<K, V, E>>>,
}

/// What was asked for in one round.
struct Asked<K, V, E> {
    round: u64,
    keys: Mutex<BTreeSet<K>>,
    loaded: OnceCell<Result<BTreeMap<K, V>, E>>,
}

impl<K, V, E> Asked<K, V, E> {
    fn nothing_in(round: u64) -> Arc<Self> {
        Arc::new(Self {
            round,
            keys: Mutex::default(),
            loaded: OnceCell::new(),
        })
    }
}

impl<K: Ord + Clone, V: Clone, E: Clone> Batch<K, V, E> {
    /// Nothing was asked for yet.
    pub fn new(rounds: &Rounds) -> Self {
        Self {
            rounds: rounds.clone(),
            open: Mutex::new(Asked::nothing_in(rounds.open())),
        }
    }

    /// What `key` stands for; `None` when `load` found nothing under it. `load` is called with the keys of every caller
    /// that asked in the same round.
    ///
    /// # Errors
    /// What `load` said, to everybody in the batch.
    pub async fn load<F, L>(&self, key: K, load: F) -> Result<Option<V>, E>
    where
        F: FnOnce(Vec<K>) -> L,
        L: Future<Output = Result<BTreeMap<K, V>, E>>,
    {
        let asked = self.open_round();
        lock(&asked.keys).insert(key.clone());
        self.rounds.end_of(asked.round).await;
        Self::loaded(&asked, &key, load).await
    }

    /// What `key` stands for if somebody else asks for it in this round, from the same statement; `None` when nobody does.
    pub async fn load_if_asked<F, L>(&self, key: &K, load: F) -> Option<Result<Option<V>, E>>
    where
        F: FnOnce(Vec<K>) -> L,
        L: Future<Output = Result<BTreeMap<K, V>, E>>,
    {
        let asked = self.open_round();
        self.rounds.end_of(asked.round).await;
        let wanted = lock(&asked.keys).contains(key);
        match wanted {
            true => Some(Self::loaded(&asked, key, load).await),
            false => None,
        }
    }

    fn open_round(&self) -> Arc<Asked<K, V, E>> {
        let mut open = lock(&self.open);
        let round = self.rounds.open();
        if open.round != round {
            *open = Asked::nothing_in(round);
        }
        Arc::clone(&open)
    }

    /// What a round that has ended gave for `key`; the first who comes loads for all.
    async fn loaded<F, L>(asked: &Asked<K, V, E>, key: &K, load: F) -> Result<Option<V>, E>
    where
        F: FnOnce(Vec<K>) -> L,
        L: Future<Output = Result<BTreeMap<K, V>, E>>,
    {
        let loaded = asked
            .loaded
            .get_or_init(|| {
                // Cloned, not taken: should this caller be dropped half-way, the next one loads for all again.
                let keys = lock(&asked.keys).iter().cloned().collect();
                load(keys)
            })
            .await;
        match loaded {
            Ok(values) => Ok(values.get(key).cloned()),
            Err(error) => Err(error.clone()),
        }
    }
}

/// The data behind a poisoned lock is still whole: every critical section here is a single insertion or swap.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{abortable, join_all, join3, try_join_all};
    use tokio::sync::Notify;

    use super::*;

    async fn doubled(calls: &AtomicUsize, keys: Vec<u32>) -> Result<BTreeMap<u32, u32>, String> {
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        Ok(keys
            .into_iter()
            .filter(|key| *key != 13)
            .map(|key| (key, key * 2))
            .collect())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_hundred_siblings_cost_one_load() {
        let (rounds, driver) = Rounds::new();
        let (batch, calls) = (Batch::new(&rounds), AtomicUsize::new(0));
        let siblings = (0..100).map(|key| batch.load(key, |keys| doubled(&calls, keys)));
        let answers = driver.drive(try_join_all(siblings)).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        for (key, answer) in (0..100).zip(answers) {
            assert_eq!(answer, (key != 13).then_some(key * 2));
        }
    }

    /// Returns after having let the others go first so often.
    async fn after_you(times: u32) {
        for _ in 0..times {
            let mut first = true;
            std::future::poll_fn(|context| {
                if std::mem::take(&mut first) {
                    context.waker().wake_by_ref();
                    return std::task::Poll::Pending;
                }
                std::task::Poll::Ready(())
            })
            .await;
        }
    }

    #[tokio::test]
    async fn siblings_that_come_one_after_the_other_cost_one_load_a_level() {
        let (rounds, driver) = Rounds::new();
        let (first, second) = (Batch::new(&rounds), Batch::new(&rounds));
        let (one, two) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let sibling = async |key| {
            after_you(key).await;
            first.load(key, |keys| doubled(&one, keys)).await.unwrap();
            after_you(100 - key).await;
            second.load(key, |keys| doubled(&two, keys)).await.unwrap();
        };
        driver.drive(join_all((0..100).map(sibling))).await;
        let calls = (one.load(Ordering::Relaxed), two.load(Ordering::Relaxed));
        assert_eq!(calls, (1, 1));
    }

    #[tokio::test]
    async fn who_asks_later_is_loaded_later() {
        let (rounds, driver) = Rounds::new();
        let (batch, calls) = (Batch::new(&rounds), AtomicUsize::new(0));
        let asking = async {
            for key in [1, 2, 1] {
                let answer = batch.load(key, |keys| doubled(&calls, keys)).await;
                assert_eq!(answer, Ok(Some(key * 2)));
            }
        };
        driver.drive(asking).await;
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn who_joins_others_costs_nothing_whoever_came_first() {
        let (rounds, driver) = Rounds::new();
        let (batch, calls) = (Batch::new(&rounds), AtomicUsize::new(0));
        let joined = batch.load_if_asked(&1, |keys| doubled(&calls, keys));
        let alone = batch.load_if_asked(&2, |keys| doubled(&calls, keys));
        let asked = batch.load(1, |keys| doubled(&calls, keys));
        let (joined, alone, asked) = driver.drive(join3(joined, alone, asked)).await;
        assert_eq!((joined, alone), (Some(Ok(Some(2))), None));
        assert_eq!(asked, Ok(Some(2)));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_everybody_in_the_batch() {
        let (rounds, driver) = Rounds::new();
        let batch = Batch::<u32, u32, String>::new(&rounds);
        let siblings = (0..3).map(|key| batch.load(key, |_| async { Err("away".to_owned()) }));
        let answers = driver.drive(join_all(siblings)).await;
        assert_eq!(answers, vec![Err("away".to_owned()); 3]);
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_half_way_takes_nobody_along() {
        let (rounds, driver) = Rounds::new();
        let (batch, calls) = (Batch::new(&rounds), AtomicUsize::new(0));
        let loading = Notify::new();
        // The first is the one that loads, and never comes to an end.
        let (dropped, handle) = abortable(batch.load(1, |_| {
            loading.notify_one();
            std::future::pending()
        }));
        let kept = batch.load(2, |keys| doubled(&calls, keys));
        let drop_it = async {
            loading.notified().await;
            assert_eq!(calls.load(Ordering::Relaxed), 0);
            handle.abort();
        };
        let (dropped, kept, ()) = driver.drive(join3(dropped, kept, drop_it)).await;
        assert!(dropped.is_err());
        assert_eq!(kept, Ok(Some(4)));
    }
}
