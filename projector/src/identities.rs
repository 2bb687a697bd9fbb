//! `identities`: who is somebody outside, and what they call themselves.

use std::collections::BTreeSet;

use chat4all_domain::Recorded;
use chat4all_domain::identity::Event;
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::identity::{self, Row};
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::rows::Kept;

pub(crate) struct Identities(Kept<Uuid, Row>);

impl Identities {
    pub async fn load(tx: &mut PgConnection, changes: &[&Change]) -> Result<Self, Error> {
        let touched = |change: &&Change| match change {
            Change::Identity(id, _) => Some(id.uuid()),
            Change::Conversation(..)
            | Change::Message(..)
            | Change::Delivery(..)
            | Change::Reader(..) => None,
        };
        let keys: BTreeSet<Uuid> = changes.iter().filter_map(touched).collect();
        if keys.is_empty() {
            return Ok(Self(Kept::loaded([])));
        }
        let keys: Vec<Uuid> = keys.into_iter().collect();
        let rows = identity::load(tx, &keys).await?;
        let by_key = rows.into_iter().map(|row| (row.identity_id, row));
        Ok(Self(Kept::loaded(by_key)))
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

    pub async fn write(self, tx: &mut PgConnection) -> Result<(), Error> {
        let rows = self.0.into_changed();
        if rows.is_empty() {
            return Ok(());
        }
        identity::write(tx, &rows).await
    }
}
