//! Everything that is needed to work with one type of aggregate: its cache, and the queues of commands that wait.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use chat4all_domain::{Aggregate, Revision};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::execute::Waiting;
use crate::load::{self, Loaded};
use crate::{Log, cache};

/// The aggregates of type `A` on the log. Cheap to clone; one per process and type, because the queue is what keeps a
/// process from racing against itself.
pub struct Store<A: Aggregate> {
    pub(crate) inner: Arc<Inner<A>>,
}

pub(crate) struct Inner<A: Aggregate> {
    pub(crate) log: Log,
    pub(crate) cache: Cache<A>,
    /// The commands that wait, by aggregate. An entry exists exactly while a task works on that aggregate.
    pub(crate) queues: Mutex<HashMap<A::Id, VecDeque<Waiting<A>>>>,
    pub(crate) tasks: TaskTracker,
}

impl<A: Aggregate> Clone for Store<A> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<A: Aggregate> fmt::Debug for Store<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store<{}>", A::TYPE)
    }
}

impl<A: Aggregate> Store<A> {
    /// The store of this process. Work that was begun is tracked by `tasks`: wait for it at shutdown.
    pub fn new(log: Log, tasks: TaskTracker) -> Self {
        Self::with_capacity(log, tasks, cache::DEFAULT_CAPACITY)
    }

    /// As [`Store::new`], with room for `capacity` cached states.
    pub fn with_capacity(log: Log, tasks: TaskTracker, capacity: u64) -> Self {
        let (cache, queues) = (Cache::new(capacity), Mutex::default());
        Self {
            inner: Arc::new(Inner {
                log,
                cache,
                queues,
                tasks,
            }),
        }
    }

    /// The log behind it.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// The state in the cache, however old it is.
    pub fn cached(&self, id: &A::Id) -> Option<Arc<Loaded<A>>> {
        self.inner.cache.get(id)
    }

    /// The state as the leader knows it now; the cache only saves reading what is known already.
    ///
    /// # Errors
    /// See [`load::Error`].
    pub async fn from_leader(
        &self,
        id: &A::Id,
        deadline: Instant,
    ) -> Result<Arc<Loaded<A>>, load::Error> {
        let base = self
            .cached(id)
            .map_or_else(Loaded::default, |loaded| (*loaded).clone());
        let log = &self.inner.log;
        let loaded = load::catch_up(log, id, base, load::From::Leader, deadline).await?;
        Ok(self.inner.cache.put(id, loaded))
    }

    /// Somebody wrote `revision`: forget what is older.
    pub fn outdated(&self, id: &A::Id, revision: Revision) {
        self.inner.cache.outdated(id, revision);
    }
}
