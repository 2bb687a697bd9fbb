//! `readers`: how far each participant has read.

use std::collections::BTreeSet;

use chat4all_domain::reader::Event;
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::reader::{self, Row};
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::rows::{Kept, Writing};

/// Conversation and participant.
type Key = (Uuid, Uuid);

#[derive(Default)]
pub(crate) struct Readers(Kept<Key, Row>);

impl Readers {
    pub async fn load(&mut self, tx: &mut PgConnection, changes: &[&Change]) -> Result<(), Error> {
        let touched = |change: &&Change| match change {
            Change::Reader(id, _) => Some((id.conversation.uuid(), id.participant.uuid())),
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Delivery(..)
            | Change::Identity(..) => None,
        };
        let keys: BTreeSet<Key> = changes
            .iter()
            .filter_map(touched)
            .filter(|key| self.is_unknown(*key))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        let rows = reader::load(tx, &keys).await?;
        let by_key = rows
            .into_iter()
            .map(|row| ((row.conversation_id, row.participant_id), row));
        self.0.loaded(by_key);
        Ok(())
    }

    fn is_unknown(&self, key: Key) -> bool {
        self.0.get(key).is_none()
    }

    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Reader(id, events) => {
                let key = (id.conversation.uuid(), id.participant.uuid());
                for event in events {
                    self.moved(key, &event.event);
                }
            }
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Delivery(..)
            | Change::Identity(..) => {}
        }
    }

    /// As the domain has it: a mark only moves forward.
    fn moved(&mut self, key: Key, event: &Event) {
        match event {
            Event::ReadUpTo { facts } => {
                let moved = Row {
                    conversation_id: key.0,
                    participant_id: key.1,
                    message_id: facts.message.uuid(),
                    up_to_sequence: to_i64(facts.sequence),
                    read_at: facts.occurred_at.to_datetime(),
                };
                match self.0.get(key) {
                    None => self.0.add(key, || moved),
                    Some(row) if row.up_to_sequence < moved.up_to_sequence => {
                        if let Some(row) = self.0.change(key) {
                            *row = moved;
                        }
                    }
                    Some(_) => {}
                }
            }
        }
    }

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        let (added, changed) = (self.0.added(), self.0.changed());
        let (copied, upserted): (Vec<&Row>, Vec<&Row>) = match writing {
            Writing::Upsert => (vec![], added.chain(changed).collect()),
            Writing::Copy => (added.collect(), changed.collect()),
        };
        if !copied.is_empty() {
            reader::copy(tx, &copied).await?;
        }
        if !upserted.is_empty() {
            reader::write(tx, &upserted).await?;
        }
        Ok(())
    }

    pub fn committed(&mut self) {
        self.0.committed();
    }
}
