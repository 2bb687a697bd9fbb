//! `participants`: who was in which conversation, from when to when.

use std::collections::{BTreeMap, BTreeSet};

use chat4all_domain::conversation::{Event, Participant, Who};
use chat4all_domain::{Address, Recorded, Timestamp};
use chat4all_nats::Change;
use chat4all_postgres::checkpoint::to_i64;
use chat4all_postgres::participant::{self, Row};
use sqlx::{Error, PgConnection};
use uuid::Uuid;

use crate::conversations::begins;
use crate::rows::{KEPT, Writing};

/// Conversation and participant.
type Key = (Uuid, Uuid);

#[derive(Default)]
pub(crate) struct Participants {
    /// The stays that have not ended.
    present: BTreeMap<Key, Row>,
    /// The stays that have begun or ended, by the sequence they began at. Who joins and leaves within one envelope was
    /// not there: such a stay gives way to the next one that begins at the same place.
    changed: BTreeMap<(Uuid, Uuid, i64), Row>,
    /// Those of them that have begun.
    added: BTreeSet<(Uuid, Uuid, i64)>,
}

impl Participants {
    pub async fn load(
        &mut self,
        tx: &mut PgConnection,
        changes: &[&Change],
        writing: Writing,
    ) -> Result<(), Error> {
        let mut keys = BTreeSet::new();
        for change in changes {
            match change {
                // Nobody was in it before.
                Change::Conversation(..)
                    if writing == Writing::Copy && begins(change).is_some() => {}
                Change::Conversation(id, events) => {
                    let of = |event: &Recorded<Event>| keys_of(id.uuid(), &event.event);
                    keys.extend(events.iter().flat_map(of));
                }
                Change::Message(..)
                | Change::Delivery(..)
                | Change::Reader(..)
                | Change::Identity(..) => {}
            }
        }
        let unknown = |key: &Key| !self.present.contains_key(key);
        let keys: Vec<Key> = keys.into_iter().filter(unknown).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let rows = participant::load_present(tx, &keys).await?;
        let by_key = rows
            .into_iter()
            .map(|row| ((row.conversation_id, row.participant_id), row));
        self.present.extend(by_key);
        Ok(())
    }

    pub fn fold(&mut self, change: &Change) {
        match change {
            Change::Conversation(id, events) => {
                for event in events {
                    self.changed(id.uuid(), event);
                }
            }
            Change::Message(..)
            | Change::Delivery(..)
            | Change::Reader(..)
            | Change::Identity(..) => {}
        }
    }

    fn changed(&mut self, conversation: Uuid, recorded: &Recorded<Event>) {
        let sequence = to_i64(recorded.position.sequence);
        match &recorded.event {
            Event::Started { facts, personal } => {
                for participant in &facts.participants {
                    let address = personal.addresses.get(&participant.participant);
                    let at = facts.occurred_at;
                    self.join(stay(conversation, participant, address, sequence, at));
                }
            }
            Event::Joined { facts, personal } => {
                let address = personal.address.as_ref();
                let (who, at) = (&facts.participant, facts.occurred_at);
                self.join(stay(conversation, who, address, sequence, at));
            }
            Event::Left { facts } => {
                let key = (conversation, facts.participant.uuid());
                self.leave(key, sequence, facts.occurred_at);
            }
        }
    }

    fn join(&mut self, row: Row) {
        let key = (row.conversation_id, row.participant_id);
        if self.present.contains_key(&key) {
            return;
        }
        let stay = (key.0, key.1, row.joined_sequence);
        self.changed.insert(stay, row.clone());
        self.added.insert(stay);
        self.present.insert(key, row);
    }

    fn leave(&mut self, key: Key, sequence: i64, at: Timestamp) {
        if let Some(mut row) = self.present.remove(&key) {
            row.left_sequence = Some(sequence);
            row.left_at = Some(at.to_datetime());
            self.changed
                .insert((key.0, key.1, row.joined_sequence), row);
        }
    }

    pub async fn write(&self, tx: &mut PgConnection, writing: Writing) -> Result<(), Error> {
        let (copied, upserted): (Vec<_>, Vec<_>) = self
            .changed
            .iter()
            .partition(|(stay, _)| writing == Writing::Copy && self.added.contains(*stay));
        let rows =
            |stays: Vec<(_, _)>| -> Vec<&Row> { stays.into_iter().map(|(_, row)| row).collect() };
        if !copied.is_empty() {
            participant::copy(tx, &rows(copied)).await?;
        }
        if !upserted.is_empty() {
            participant::write(tx, &rows(upserted)).await?;
        }
        Ok(())
    }

    pub fn committed(&mut self) {
        self.changed.clear();
        self.added.clear();
        if self.present.len() > KEPT {
            self.present.clear();
        }
    }
}

fn keys_of(conversation: Uuid, event: &Event) -> Vec<Key> {
    let key = |participant: chat4all_domain::ParticipantId| (conversation, participant.uuid());
    match event {
        Event::Started { facts, .. } => {
            let all = facts.participants.iter();
            all.map(|participant| key(participant.participant))
                .collect()
        }
        Event::Joined { facts, .. } => vec![key(facts.participant.participant)],
        Event::Left { facts } => vec![key(facts.participant)],
    }
}

fn stay(
    conversation: Uuid,
    participant: &Participant,
    address: Option<&Address>,
    sequence: i64,
    at: Timestamp,
) -> Row {
    let row = Row {
        conversation_id: conversation,
        participant_id: participant.participant.uuid(),
        joined_sequence: sequence,
        left_sequence: None,
        joined_at: at.to_datetime(),
        left_at: None,
        user_id: None,
        identity_id: None,
        channel_kind: None,
        account: None,
        address: address.map(|address| address.reveal().to_owned()),
    };
    match &participant.who {
        Who::User { user } => Row {
            user_id: Some(user.uuid()),
            ..row
        },
        Who::Contact {
            identity,
            kind,
            account,
        } => Row {
            identity_id: Some(identity.uuid()),
            channel_kind: Some(kind.as_str().to_owned()),
            account: Some(account.as_str().to_owned()),
            ..row
        },
    }
}
