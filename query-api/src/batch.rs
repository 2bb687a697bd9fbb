//! Loading for a whole page at once: what a page's items ask for one by one becomes one statement.
//!
//! Resolvers of a list run side by side in one task. Each [`Batch::load`] puts its key into the open batch and yields
//! once; by the time the first of them runs again, every sibling has asked, and that first one loads for all. No timer
//! (which would cost a millisecond per level and could split a page when the thread is paused) and no task of its own.
//!
//! The guarantee is about *how many* statements, not about a snapshot: two batches may see different commits.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

/// Collects keys of one kind within one request. `E` is what every waiter is told when the load fails.
pub struct Batch<K, V, E> {
    open: Mutex<Arc<Round<K, V, E>>>,
}

struct Round<K, V, E> {
    keys: Mutex<BTreeSet<K>>,
    loaded: OnceCell<Result<BTreeMap<K, V>, E>>,
}

impl<K, V, E> Default for Round<K, V, E> {
    fn default() -> Self {
        Self {
            keys: Mutex::default(),
            loaded: OnceCell::new(),
        }
    }
}

impl<K, V, E> Default for Batch<K, V, E> {
    fn default() -> Self {
        Self {
            open: Mutex::new(Arc::default()),
        }
    }
}

impl<K: Ord + Clone, V: Clone, E: Clone> Batch<K, V, E> {
    /// What `key` stands for; `None` when `load` found nothing under it. `load` is called with the keys of every caller
    /// that asked before any of them went on.
    ///
    /// # Errors
    /// What `load` said, to everybody in the batch.
    pub async fn load<F, L>(&self, key: K, load: F) -> Result<Option<V>, E>
    where
        F: FnOnce(Vec<K>) -> L,
        L: Future<Output = Result<BTreeMap<K, V>, E>>,
    {
        let round = {
            let open = lock(&self.open);
            lock(&open.keys).insert(key.clone());
            Arc::clone(&open)
        };
        tokio::task::yield_now().await;
        let loaded = round
            .loaded
            .get_or_init(|| {
                // From here on nobody else may join: later callers get a round of their own.
                let mut open = lock(&self.open);
                if Arc::ptr_eq(&open, &round) {
                    *open = Arc::default();
                }
                // Cloned, not taken: should this caller be dropped half-way, the next one loads for all again.
                let keys = lock(&round.keys).iter().cloned().collect();
                load(keys)
            })
            .await;
        match loaded {
            Ok(values) => Ok(values.get(&key).cloned()),
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

    use super::*;

    async fn doubled(calls: &AtomicUsize, keys: Vec<u32>) -> Result<BTreeMap<u32, u32>, String> {
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(keys
            .into_iter()
            .filter(|key| *key != 13)
            .map(|key| (key, key * 2))
            .collect())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_hundred_siblings_cost_one_load() {
        let (batch, calls) = (Batch::default(), AtomicUsize::new(0));
        let answers = futures::future::try_join_all(
            (0..100).map(|key| batch.load(key, |keys| doubled(&calls, keys))),
        )
        .await
        .unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        for (key, answer) in (0..100).zip(answers) {
            assert_eq!(answer, (key != 13).then_some(key * 2));
        }
    }

    #[tokio::test]
    async fn who_asks_later_is_loaded_later() {
        let (batch, calls) = (Batch::default(), AtomicUsize::new(0));
        for key in [1, 2, 1] {
            let answer = batch.load(key, |keys| doubled(&calls, keys)).await;
            assert_eq!(answer, Ok(Some(key * 2)));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_everybody_in_the_batch() {
        let batch = Batch::<u32, u32, String>::default();
        let answers = futures::future::join_all(
            (0..3).map(|key| batch.load(key, |_| async { Err("away".to_owned()) })),
        )
        .await;
        assert_eq!(answers, vec![Err("away".to_owned()); 3]);
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_half_way_takes_nobody_along() {
        let (batch, calls) = (Batch::default(), AtomicUsize::new(0));
        let mut dropped = Box::pin(batch.load(1, |_| std::future::pending()));
        let mut kept = Box::pin(batch.load(2, |keys| doubled(&calls, keys)));
        // Both have joined; the first is the one that loads, and never comes to an end.
        for _ in 0..3 {
            assert!(futures::poll!(dropped.as_mut()).is_pending());
            assert!(futures::poll!(kept.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        drop(dropped);
        assert_eq!(kept.await, Ok(Some(4)));
    }
}
