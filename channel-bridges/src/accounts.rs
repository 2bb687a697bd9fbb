//! The accounts as an operator sees them: how each is doing, what waits for it, and the operator's own word.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use chat4all_domain::{AccountId, ChannelKind, Partition};
use chat4all_nats::{Log, streams};
use serde::de::DeserializeOwned;

use crate::bucket::{self, Bucket};
use crate::state::State;

pub use crate::outbound::lanes::Retrying;

/// Header of a low-water mark: how many deliveries wait for each account in that partition, as JSON.
const WAITING: &str = "Chat4all-Waiting";
/// Header beside it: of those, what waits for another try, as JSON.
const RETRYING: &str = "Chat4all-Retrying";
/// Others write, too: so often a change is tried anew.
const TRIES: u32 = 20;

/// The accounts of an installation, without a bridge.
#[derive(Clone, Debug)]
pub struct Accounts {
    log: Log,
    states: Bucket,
    marks: Bucket,
}

/// What is not handed over yet through an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many deliveries.
    pub deliveries: usize,
    /// Of those, what waits for another try.
    pub retrying: Option<Retrying>,
}

/// Why an account could not be looked at, or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker is away, or has no such bucket.
    #[error("what is known of accounts is out of reach")]
    Away(#[source] bucket::Error),
    /// Not what a bridge writes: of a newer release, or by hand.
    #[error("the state of account `{key}` cannot be read")]
    Unreadable {
        /// The key in the bucket `CHANNEL_STATE`.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Somebody else was faster every time.
    #[error("the state of account `{key}` changes all the time")]
    Contended {
        /// The key in the bucket `CHANNEL_STATE`.
        key: String,
    },
}

impl Accounts {
    /// Those on `log`.
    pub fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            states: Bucket::new(log.clone(), streams::CHANNEL_STATE),
            marks: Bucket::new(log.clone(), streams::LANES),
        }
    }

    /// How an account is doing, by the leader.
    ///
    /// # Errors
    /// [`Error::Away`] and [`Error::Unreadable`].
    pub async fn state(&self, kind: ChannelKind, id: &AccountId) -> Result<State, Error> {
        let (state, _) = self.read(&key(kind, id)).await?;
        Ok(state)
    }

    /// Changes how an account is treated, for all bridges; they follow within a moment. Gives the state and whether `fold`
    /// changed it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change(
        &self,
        (kind, id): (ChannelKind, &AccountId),
        fold: impl Fn(&mut State) -> bool,
    ) -> Result<(State, bool), Error> {
        let key = key(kind, id);
        for _ in 0..TRIES {
            let (mut state, revision) = self.read(&key).await?;
            if !fold(&mut state) {
                return Ok((state, false));
            }
            let bytes = serde_json::to_vec(&state).expect("a struct of times and words");
            match self.states.update(&key, bytes.into(), revision).await {
                Ok(_) => return Ok((state, true)),
                Err(bucket::Error::Outdated { .. }) => {}
                Err(error @ bucket::Error::Away { .. }) => return Err(Error::Away(error)),
            }
        }
        Err(Error::Contended { key })
    }

    async fn read(&self, key: &str) -> Result<(State, u64), Error> {
        match self.states.last(key).await.map_err(Error::Away)? {
            // Deleted by hand: it is open.
            Some(value) if value.bytes.is_empty() => Ok((State::default(), value.revision)),
            Some(value) => {
                let state = serde_json::from_slice(&value.bytes);
                let key = key.to_owned();
                let state = state.map_err(|source| Error::Unreadable { key, source })?;
                Ok((state, value.revision))
            }
            None => Ok((State::default(), 0)),
        }
    }

    /// What waits to be handed over through each account, as the bridges said last (they do once a second);
    /// `None` when no bridge of that kind ever said so.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn waiting(
        &self,
        kind: ChannelKind,
    ) -> Result<Option<BTreeMap<AccountId, Waiting>>, Error> {
        let mut all: Option<BTreeMap<AccountId, Waiting>> = None;
        for partition in self.log.partitions().all() {
            let mark = self.marks.last(&mark_key(&kind, partition)).await;
            let Some(mark) = mark.map_err(Error::Away)? else {
                continue;
            };
            let Some(counts) = header::<usize>(&mark.headers, WAITING) else {
                continue;
            };
            let all = all.get_or_insert_with(BTreeMap::new);
            for (account, count) in counts {
                all.entry(account).or_default().deliveries += count;
            }
            for (account, retrying) in header(&mark.headers, RETRYING).unwrap_or_default() {
                let one = all.entry(account).or_default();
                one.retrying = Some(one.retrying.map_or(retrying, |all| all.and(retrying)));
            }
        }
        Ok(all)
    }
}

/// What goes beside a low-water mark.
pub(crate) fn waiting_headers(
    waiting: &BTreeMap<AccountId, usize>,
    retrying: &BTreeMap<AccountId, Retrying>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let waiting = serde_json::to_string(waiting).expect("ids and numbers");
    headers.insert(WAITING, waiting.as_str());
    if !retrying.is_empty() {
        let retrying = serde_json::to_string(retrying).expect("ids, numbers, times and words");
        headers.insert(RETRYING, retrying.as_str());
    }
    headers
}

/// What a mark has beside it, by account. A value that cannot be read, of a newer release, says nothing.
fn header<T: DeserializeOwned>(headers: &HeaderMap, name: &str) -> Option<BTreeMap<AccountId, T>> {
    let text = headers.get(name)?.as_str();
    Some(serde_json::from_str(text).unwrap_or_default())
}

/// The key of a low-water mark.
pub(crate) fn mark_key(kind: &ChannelKind, partition: Partition) -> String {
    format!("{kind}.{partition}")
}

/// The key of an account's state; names it in log lines, too.
pub(crate) fn key(kind: ChannelKind, id: &AccountId) -> String {
    format!("{kind}.{id}")
}
