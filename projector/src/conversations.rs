//! `conversations`: what each is, how many messages it has, and what happened last.

use std::collections::BTreeSet;

use chat4all_domain::conversation::{Event, Kind};
use chat4all_domain::{Recorded, message};
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::conversation::{self, Row};
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::rows::Kept;

pub(crate) struct Conversations(Kept<Uuid, Row>);

impl Conversations {
    pub async fn load(tx: &mut PgConnection, changes: &[&Change]) -> Result<Self, Error> {
        let touched = |change: &&Change| match change {
            Change::Conversation(id, _) => Some(id.uuid()),
            Change::Message(id, _) => Some(id.conversation.uuid()),
            Change::Delivery(..) | Change::Reader(..) | Change::Identity(..) => None,
        };
        let keys: BTreeSet<Uuid> = changes.iter().filter_map(touched).collect();
        if keys.is_empty() {
            return Ok(Self(Kept::loaded([])));
        }
        let keys: Vec<Uuid> = keys.into_iter().collect();
        let rows = conversation::load(tx, &keys).await?;
        let by_key = rows.into_iter().map(|row| (row.conversation_id, row));
        Ok(Self(Kept::loaded(by_key)))
    }

    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Conversation(id, events) => {
                for event in events {
                    self.changed(id.uuid(), event);
                }
            }
            Change::Message(id, events) => {
                for event in events {
                    self.message(id, event);
                }
            }
            Change::Delivery(..) | Change::Reader(..) | Change::Identity(..) => {}
        }
    }

    fn changed(&mut self, id: Uuid, recorded: &Recorded<Event>) {
        match &recorded.event {
            Event::Started { facts, personal } => {
                let kind = match facts.kind {
                    Kind::Direct => "direct",
                    Kind::Group => "group",
                };
                self.0.add(id, || Row {
                    conversation_id: id,
                    partition: i16::from(recorded.position.partition.number()),
                    kind: kind.to_owned(),
                    title: personal
                        .title
                        .as_ref()
                        .map(|title| title.reveal().to_owned()),
                    started_by: facts.by.map(|user| user.uuid()),
                    started_at: facts.occurred_at.to_datetime(),
                    started_sequence: to_i64(recorded.position.sequence),
                    last_activity_at: recorded.recorded_at.to_datetime(),
                    last_sequence: to_i64(recorded.position.sequence),
                    last_message_id: None,
                    message_count: 0,
                });
            }
            Event::Joined { .. } | Event::Left { .. } => {
                if let Some(row) = self.0.change(id) {
                    activity(row, recorded);
                }
            }
        }
    }

    fn message(&mut self, id: &message::Id, recorded: &Recorded<message::Event>) {
        match &recorded.event {
            message::Event::Accepted { .. } => {
                if let Some(row) = self.0.change(id.conversation.uuid()) {
                    row.message_count += 1;
                    row.last_message_id = Some(id.message.uuid());
                    activity(row, recorded);
                }
            }
        }
    }

    pub async fn write(self, tx: &mut PgConnection) -> Result<(), Error> {
        let rows = self.0.into_changed();
        if rows.is_empty() {
            return Ok(());
        }
        conversation::write(tx, &rows).await
    }
}

/// Clocks of several writers differ a little: the last activity never moves back.
fn activity<E>(row: &mut Row, recorded: &Recorded<E>) {
    row.last_activity_at = row.last_activity_at.max(recorded.recorded_at.to_datetime());
    row.last_sequence = to_i64(recorded.position.sequence);
}
