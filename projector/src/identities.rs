//! `identities`: who is somebody outside, and what they call themselves.

use std::collections::BTreeSet;

use chat4all_domain::Recorded;
use chat4all_domain::identity::Event;
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::identity::{self, Row};
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::rows::{Kept, Writing};

#[derive(Default)]
pub(crate) struct Identities(Kept<Uuid, Row>);

impl Identities {
    pub async fn load(&mut self, tx: &mut PgConnection, changes: &[&Change]) -> Result<(), Error> {
        let touched = |change: &&Change| match change {
            Change::Identity(id, _) => Some(id.uuid()),
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Delivery(..)
            | Change::Reader(..) => None,
        };
        let keys: BTreeSet<Uuid> = changes
            .iter()
            .filter_map(touched)
            .filter(|key| self.is_unknown(*key))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<Uuid> = keys.into_iter().collect();
        let rows = identity::load(tx, &keys).await?;
        let by_key = rows.into_iter().map(|row| (row.identity_id, row));
        self.0.loaded(by_key);
        Ok(())
    }

    fn is_unknown(&self, key: Uuid) -> bool {
        self.0.get(key).is_none()
    }

    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Identity(id, events) => {
                for event in events {
                    self.changed(id.uuid(), event);
                }
            }
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Delivery(..)
            | Change::Reader(..) => {}
        }
    }

    fn changed(&mut self, id: Uuid, recorded: &Recorded<Event>) {
        match &recorded.event {
            Event::Registered { facts, personal } => self.0.add(id, || Row {
                identity_id: id,
                partition: i16::from(recorded.position.partition.number()),
                kind: facts.kind.as_str().to_owned(),
                address: personal.address.reveal().to_owned(),
                name: personal.name.as_ref().map(|name| name.reveal().to_owned()),
                first_seen_at: facts.occurred_at.to_datetime(),
                first_sequence: to_i64(recorded.position.sequence),
            }),
            Event::Named { personal, .. } => {
                if let Some(row) = self.0.change(id) {
                    row.name = Some(personal.name.reveal().to_owned());
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
            identity::copy(tx, &copied).await?;
        }
        if !upserted.is_empty() {
            identity::write(tx, &upserted).await?;
        }
        Ok(())
    }

    pub fn committed(&mut self) {
        self.0.committed();
    }
}
