//! Places for connections: so many in all, so many of one caller, so many of those who have not said yet who they are.
//!
//! Counted per process: behind a load balancer a caller has as many places as there are processes times the limit. A place is
//! free again when it is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat4all_domain::UserId;
use chat4all_service::Problem;
use chat4all_service::auth::Caller;
use chat4all_service::problem::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Limits, RETRY_AFTER};

/// All places of this process.
pub struct Places {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    callers: Arc<Callers>,
}

/// One place.
pub struct Place {
    whose: Whose,
    callers: Arc<Callers>,
    _one: OwnedSemaphorePermit,
}

/// Whose a place is.
enum Whose {
    /// Somebody who has a few seconds to say who they are.
    Stranger {
        _place: OwnedSemaphorePermit,
    },
    Caller(Own),
}

/// Who has how many.
struct Callers {
    most: usize,
    have: Mutex<HashMap<UserId, usize>>,
}

/// One of a caller's.
struct Own {
    user: UserId,
    callers: Arc<Callers>,
}

impl Places {
    /// None is taken.
    pub fn new(limits: Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            callers: Arc::new(Callers {
                most: limits.per_caller,
                have: Mutex::default(),
            }),
        }
    }

    /// A place for `caller`, or for somebody who has not said yet who they are.
    ///
    /// # Errors
    /// 429 for a caller who has as many as one may have; 503 when this process has none.
    pub fn take(&self, caller: Option<&Caller>) -> Result<Place, Problem> {
        let one = Arc::clone(&self.all).try_acquire_owned();
        let one = one.map_err(|_| {
            full("This process has as many open connections as it takes. Try again, perhaps elsewhere.")
        })?;
        let whose = match caller {
            Some(caller) => Whose::Caller(self.callers.take(caller)?),
            None => {
                let place = Arc::clone(&self.strangers).try_acquire_owned();
                let _place = place.map_err(|_| {
                    full(
                        "Too many connections have not said yet who they are. Send the token with the upgrade \
                         (`Authorization`, or `?token=`), or try again.",
                    )
                })?;
                Whose::Stranger { _place }
            }
        };
        Ok(Place {
            whose,
            callers: Arc::clone(&self.callers),
            _one: one,
        })
    }
}

impl Place {
    /// It is `caller`'s from now on.
    ///
    /// # Errors
    /// 429 when that would be one too many; it is whose it was.
    pub fn is_of(&mut self, caller: &Caller) -> Result<(), Problem> {
        if let Whose::Caller(own) = &self.whose
            && own.user == user(caller)
        {
            return Ok(());
        }
        self.whose = Whose::Caller(self.callers.take(caller)?);
        Ok(())
    }
}

impl Callers {
    fn take(self: &Arc<Self>, caller: &Caller) -> Result<Own, Problem> {
        let user = user(caller);
        let mut have = self.lock();
        let count = have.entry(user).or_default();
        if *count >= self.most {
            let detail = format!(
                "You have {} open connections to this process, as many as one caller may have: close one first.",
                self.most
            );
            return Err(Problem::new(Code::TooManyRequests, detail).retry_after(RETRY_AFTER));
        }
        *count += 1;
        let callers = Arc::clone(self);
        Ok(Own { user, callers })
    }

    /// The counts are whole at every unlock.
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut have = self.callers.lock();
        if let Some(count) = have.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                // Who has none is not remembered: callers are many.
                have.remove(&self.user);
            }
        }
    }
}

fn user(caller: &Caller) -> UserId {
    UserId::derive(caller.issuer(), caller.sub())
}

fn full(detail: &'static str) -> Problem {
    Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER)
}
