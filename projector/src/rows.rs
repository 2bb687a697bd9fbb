//! Every projection, together: what the batch touches is loaded once, folded in memory, written once.

use std::collections::{BTreeMap, BTreeSet};

use chat4all_nats::Change;
use sqlx::{Error, PgConnection};

use crate::conversations::Conversations;
use crate::deliveries::Deliveries;
use crate::delivery_events::DeliveryEvents;
use crate::identities::Identities;
use crate::messages::Messages;
use crate::participants::Participants;
use crate::readers::Readers;

pub(crate) struct Rows {
    conversations: Conversations,
    participants: Participants,
    messages: Messages,
    deliveries: Deliveries,
    delivery_events: DeliveryEvents,
    readers: Readers,
    identities: Identities,
}

impl Rows {
    pub async fn load(tx: &mut PgConnection, changes: &[&Change]) -> Result<Self, Error> {
        Ok(Self {
            conversations: Conversations::load(tx, changes).await?,
            participants: Participants::load(tx, changes).await?,
            messages: Messages::default(),
            deliveries: Deliveries::load(tx, changes).await?,
            delivery_events: DeliveryEvents::default(),
            readers: Readers::load(tx, changes).await?,
            identities: Identities::load(tx, changes).await?,
        })
    }

    pub fn fold(&mut self, change: &Change) {
        self.conversations.fold(change);
        self.participants.fold(change);
        self.messages.fold(change);
        self.deliveries.fold(change);
        self.delivery_events.fold(change);
        self.readers.fold(change);
        self.identities.fold(change);
    }

    pub async fn write(self, tx: &mut PgConnection) -> Result<(), Error> {
        self.conversations.write(tx).await?;
        self.participants.write(tx).await?;
        self.messages.write(tx).await?;
        self.deliveries.write(tx).await?;
        self.delivery_events.write(tx).await?;
        self.readers.write(tx).await?;
        self.identities.write(tx).await
    }
}

/// Rows by key: as they were loaded, or as events have left them.
pub(crate) struct Kept<K, R> {
    rows: BTreeMap<K, R>,
    changed: BTreeSet<K>,
}

impl<K: Ord + Copy, R> Kept<K, R> {
    pub fn loaded(rows: impl IntoIterator<Item = (K, R)>) -> Self {
        Self {
            rows: rows.into_iter().collect(),
            changed: BTreeSet::new(),
        }
    }

    /// The row, if there is one, to be changed.
    pub fn change(&mut self, key: K) -> Option<&mut R> {
        let row = self.rows.get_mut(&key)?;
        self.changed.insert(key);
        Some(row)
    }

    /// The row as it is.
    pub fn get(&self, key: K) -> Option<&R> {
        self.rows.get(&key)
    }

    /// A new row. One that is there already stays as it is.
    pub fn add(&mut self, key: K, row: impl FnOnce() -> R) {
        self.rows.entry(key).or_insert_with(|| {
            self.changed.insert(key);
            row()
        });
    }

    /// What has to be written, in the order of keys.
    pub fn into_changed(mut self) -> Vec<R> {
        let changed = std::mem::take(&mut self.changed);
        changed
            .iter()
            .filter_map(|key| self.rows.remove(key))
            .collect()
    }
}
