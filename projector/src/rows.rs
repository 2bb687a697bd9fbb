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

/// So many rows of one table are kept from batch to batch, at most.
pub(crate) const KEPT: usize = 50_000;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Whatever is there already.
    Upsert,
    /// What no event has made before by `COPY`, and refused if it is there all the same; so what a conversation begins with
    /// is not looked for.
    Copy,
}

/// Rows that events have touched. One batch's, or, when nobody else writes into the tables, those of the batches before,
/// too: they need not be loaded again.
#[derive(Default)]
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
    /// Loads what `changes` touch and is not known yet.
    pub async fn load(
        &mut self,
        tx: &mut PgConnection,
        changes: &[&Change],
        writing: Writing,
    ) -> Result<(), Error> {
        self.conversations.load(tx, changes, writing).await?;
        self.participants.load(tx, changes, writing).await?;
        self.deliveries.load(tx, changes).await?;
        self.readers.load(tx, changes).await?;
        self.identities.load(tx, changes).await
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

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        self.conversations.write(tx, writing).await?;
        self.participants.write(tx, writing).await?;
        self.messages.write(tx, writing).await?;
        self.deliveries.write(tx, writing).await?;
        self.delivery_events.write(tx, writing).await?;
        self.readers.write(tx, writing).await?;
        self.identities.write(tx, writing).await
    }

    /// What was written is committed: these are the rows as they are in the tables now.
    pub fn committed(&mut self) {
        self.conversations.committed();
        self.participants.committed();
        self.messages.committed();
        self.deliveries.committed();
        self.delivery_events.committed();
        self.readers.committed();
        self.identities.committed();
    }
}

/// Rows by key: as they are in the table, or as events have left them.
pub(crate) struct Kept<K, R> {
    rows: BTreeMap<K, R>,
    added: BTreeSet<K>,
    changed: BTreeSet<K>,
}

impl<K, R> Default for Kept<K, R> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            added: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy, R> Kept<K, R> {
    /// Rows as they are in the table.
    pub fn loaded(&mut self, rows: impl IntoIterator<Item = (K, R)>) {
        self.rows.extend(rows);
    }

    /// The row, if there is one, to be changed.
    pub fn change(&mut self, key: K) -> Option<&mut R> {
        let row = self.rows.get_mut(&key)?;
        if !self.added.contains(&key) {
            self.changed.insert(key);
        }
        Some(row)
    }

    /// The row as it is.
    pub fn get(&self, key: K) -> Option<&R> {
        self.rows.get(&key)
    }

    /// Whether there is a row from this key on that `is`.
    pub fn next(&self, from: K, is: impl Fn(&K) -> bool) -> bool {
        self.rows
            .range(from..)
            .next()
            .is_some_and(|(key, _)| is(key))
    }

    /// A new row. One that is there already stays as it is.
    pub fn add(&mut self, key: K, row: impl FnOnce() -> R) {
        self.rows.entry(key).or_insert_with(|| {
            self.added.insert(key);
            row()
        });
    }

    /// What no event had made before, in the order of keys.
    pub fn added(&self) -> impl Iterator<Item = &R> {
        self.added.iter().filter_map(|key| self.rows.get(key))
    }

    /// What was there before and is another now, in the order of keys.
    pub fn changed(&self) -> impl Iterator<Item = &R> {
        self.changed.iter().filter_map(|key| self.rows.get(key))
    }

    /// Everything is written.
    pub fn committed(&mut self) {
        self.added.clear();
        self.changed.clear();
        if self.rows.len() > KEPT {
            self.rows.clear();
        }
    }
}
