//! `conversations`: what each is, how many messages it has, and what happened last.

use std::collections::BTreeSet;

use chat4all_domain::conversation::{Event, Kind};
use chat4all_domain::{Recorded, message};
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::conversation::{self, Row};
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::rows::{Kept, Writing};

#[derive(Default)]
pub(crate) struct Conversations(Kept<Uuid, Row>);

impl Conversations {
    pub async fn load(
        &mut self,
        tx: &mut PgConnection,
        changes: &[&Change],
        writing: Writing,
    ) -> Result<(), Error> {
        let mut begun = BTreeSet::new();
        if writing == Writing::Copy {
            begun.extend(changes.iter().filter_map(|change| begins(change)));
        }
        let touched = |change: &&Change| match change {
            Change::Conversation(id, _) => Some(id.uuid()),
            Change::Message(id, _) => Some(id.conversation.uuid()),
            Change::Delivery(..) | Change::Reader(..) | Change::Identity(..) => None,
        };
        let keys: BTreeSet<Uuid> = changes
            .iter()
            .filter_map(touched)
            .filter(|key| self.is_unknown(*key) && !begun.contains(key))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<Uuid> = keys.into_iter().collect();
        let rows = conversation::load(tx, &keys).await?;
        let by_key = rows.into_iter().map(|row| (row.conversation_id, row));
        self.0.loaded(by_key);
        Ok(())
    }

    fn is_unknown(&self, key: Uuid) -> bool {
        self.0.get(key).is_none()
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

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        let (added, changed) = (self.0.added(), self.0.changed());
        let (copied, upserted): (Vec<&Row>, Vec<&Row>) = match writing {
            Writing::Upsert => (vec![], added.chain(changed).collect()),
            Writing::Copy => (added.collect(), changed.collect()),
        };
        if !copied.is_empty() {
            conversation::copy(tx, &copied).await?;
        }
        if !upserted.is_empty() {
            conversation::write(tx, &upserted).await?;
        }
        Ok(())
    }

    pub fn committed(&mut self) {
        self.0.committed();
    }
}

/// The conversation that begins with this.
pub(crate) fn begins(change: &Change) -> Option<Uuid> {
    match change {
        Change::Conversation(id, events) => events
            .iter()
            .any(|recorded| match recorded.event {
                Event::Started { .. } => true,
                Event::Joined { .. } | Event::Left { .. } => false,
            })
            .then(|| id.uuid()),
        Change::Message(..) | Change::Delivery(..) | Change::Reader(..) | Change::Identity(..) => {
            None
        }
    }
}

/// Clocks of several writers differ a little: the last activity never moves back.
fn activity<E>(row: &mut Row, recorded: &Recorded<E>) {
    row.last_activity_at = row.last_activity_at.max(recorded.recorded_at.to_datetime());
    row.last_sequence = to_i64(recorded.position.sequence);
}
