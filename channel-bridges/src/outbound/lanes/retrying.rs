//! Who waits for another try, for whoever looks.

use std::collections::BTreeMap;

use chat4all_domain::delivery::FailureClass;
use chat4all_domain::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Lanes;

/// Recipients of an account whose next delivery waits for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrying {
    /// How many; one in two conversations counts twice.
    pub recipients: usize,
    /// When the first of them is tried.
    pub next: Timestamp,
    /// Why that one waits.
    pub class: FailureClass,
}

impl Retrying {
    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let first = if other.next < self.next { other } else { self };
        Self {
            recipients: self.recipients + other.recipients,
            ..first
        }
    }
}

impl Lanes {
    /// What waits for another try, by account; none of those that have nothing. As each lane said when it was last asked.
    pub fn retrying(&self) -> BTreeMap<AccountId, Retrying> {
        let mut all: BTreeMap<AccountId, Retrying> = BTreeMap::new();
        for (key, lane) in &self.lanes {
            let Some((next, class)) = lane.waits else {
                continue;
            };
            let one = Retrying {
                recipients: 1,
                next,
                class,
            };
            match all.get_mut(&key.account) {
                Some(all) => *all = all.and(one),
                None => drop(all.insert(key.account.clone(), one)),
            }
        }
        all
    }
}
