//! Customers to whom one account may not write for a while (class PAIR).
//!
//! The lane that was refused waits by its own `DeliveryDeferred`. Other conversations with the same customer learn it here,
//! whoever owns them: a key per pair in the bucket `CHANNEL_STATE`, which goes away when it has had its time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat4all_domain::{IdentityId, Timestamp};

/// More than so many are looked through for those that are over.
const MANY: usize = 1_024;
/// Between an account's key and the customer in the key of a pair.
const PAIR: &str = ".pair.";

/// What this process knows about pairs of one account.
#[derive(Debug, Default)]
pub struct Pairs(Mutex<HashMap<IdentityId, Timestamp>>);

impl Pairs {
    /// Nothing to this customer before `until`. `false` when that was known.
    pub fn wait(&self, who: IdentityId, until: Timestamp, now: Timestamp) -> bool {
        let mut pairs = self.lock();
        if pairs.len() >= MANY {
            pairs.retain(|_, until| *until > now);
        }
        let known = pairs.get(&who).is_some_and(|known| *known >= until);
        if !known && until > now {
            pairs.insert(who, until);
        }
        !known
    }

    /// Before when nothing may go to a customer, if so. `who` is asked for only when somebody waits at all.
    pub fn until(&self, who: impl FnOnce() -> IdentityId, now: Timestamp) -> Option<Timestamp> {
        let mut pairs = self.lock();
        if pairs.is_empty() {
            return None;
        }
        let who = who();
        match pairs.get(&who) {
            Some(until) if *until > now => Some(*until),
            Some(_) => {
                pairs.remove(&who);
                None
            }
            None => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdentityId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of a pair, below that of its account.
pub fn key(account: &str, who: &IdentityId) -> String {
    format!("{account}{PAIR}{who}")
}

/// The account's key and the customer that the key of a pair names.
pub fn parse(key: &str) -> Option<(&str, IdentityId)> {
    let (account, who) = key.split_once(PAIR)?;
    Some((account, who.parse().ok()?))
}

/// How long the bucket has to keep a pair: whole seconds, one at least.
pub fn time_to_live(until: Timestamp, now: Timestamp) -> Duration {
    let ms = u64::try_from(until.unix_ms() - now.unix_ms()).unwrap_or(0);
    Duration::from_secs(ms.div_ceil(1_000).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn who(number: u128) -> IdentityId {
        IdentityId::new(Uuid::from_u128(number))
    }
    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_ms(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_customer_waits_until_the_latest_moment_and_nobody_else_does() {
        let pairs = Pairs::default();
        assert_eq!(pairs.until(|| panic!("nobody waits"), at(1)), None);
        assert!(pairs.wait(who(1), at(10), at(1)));
        assert!(!pairs.wait(who(1), at(9), at(1)));
        assert_eq!(pairs.until(|| who(1), at(9)), Some(at(10)));
        assert_eq!(pairs.until(|| who(2), at(9)), None);
        assert_eq!(pairs.until(|| who(1), at(10)), None);
        assert_eq!(pairs.until(|| panic!("nobody waits"), at(10)), None);
    }

    #[test]
    fn those_that_are_over_are_forgotten_when_there_are_many() {
        let pairs = Pairs::default();
        for number in 0..MANY {
            pairs.wait(who(number as u128), at(10), at(1));
        }
        pairs.wait(who(u128::MAX), at(30), at(20));
        assert_eq!(pairs.lock().len(), 1);
    }

    #[test]
    fn a_pairs_key_reads_back_and_an_accounts_is_none() {
        let account = "whatsapp.whatsapp-main";
        let pair = key(account, &who(7));
        assert_eq!(parse(&pair), Some((account, who(7))));
        assert_eq!(parse(account), None);
        assert_eq!(time_to_live(at(1), at(1)), Duration::from_secs(1));
        let soon = Timestamp::from_unix_ms(1_001);
        assert_eq!(time_to_live(soon, at(0)), Duration::from_secs(2));
    }
}
