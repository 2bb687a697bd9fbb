//! Rows in the projector's shape, written by the projector's statements.

use chat4all_domain::{ConversationId, IdentityId, MessageId, ParticipantId, Timestamp};
use chat4all_postgres::{checkpoint, conversation, delivery, delivery_event, identity};
use chat4all_postgres::{message, participant, reader};
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::world::user;

pub const PARTITION: i16 = 7;

/// A conversation that is being written; the log's sequence goes on by one with each thing that happens.
pub struct Room {
    pub id: ConversationId,
    pub sequence: i64,
    row: conversation::Row,
    stays: Vec<participant::Row>,
}

pub fn at(sequence: i64) -> OffsetDateTime {
    Timestamp::from_unix_ms(1_763_787_000_000 + sequence * 1_000).to_datetime()
}

/// The text under which sequences are cursors and positions.
pub fn position(sequence: i64) -> String {
    format!("{PARTITION:02}-{sequence}")
}

pub fn identity_of(number: u128) -> IdentityId {
    IdentityId::new(Uuid::from_u128(0xA000 + number))
}

impl Room {
    /// Starts one with these users; `first` is where the log is.
    pub async fn start(db: &mut PgConnection, number: u128, first: i64, users: &[&str]) -> Self {
        let id = ConversationId::new(Uuid::from_u128(number));
        let row = conversation::Row {
            conversation_id: id.uuid(),
            partition: PARTITION,
            kind: "group".to_owned(),
            title: Some(format!("Order {number}")),
            started_by: None,
            started_at: at(first),
            started_sequence: first,
            last_activity_at: at(first),
            last_sequence: first,
            last_message_id: None,
            message_count: 0,
        };
        let mut room = Self {
            id,
            sequence: first,
            row,
            stays: Vec::new(),
        };
        for name in users {
            room.stays.push(room.stay(name));
        }
        participant::write(db, &room.stays).await.unwrap();
        room.touch(db).await;
        room
    }

    pub fn participant(&self, name: &str) -> ParticipantId {
        ParticipantId::of_user(self.id, user(name))
    }

    pub fn contact(&self, number: u128) -> ParticipantId {
        ParticipantId::of_contact(self.id, "whatsapp-main", identity_of(number))
    }

    fn stay(&self, name: &str) -> participant::Row {
        participant::Row {
            conversation_id: self.id.uuid(),
            participant_id: self.participant(name).uuid(),
            joined_sequence: self.sequence,
            left_sequence: None,
            joined_at: at(self.sequence),
            left_at: None,
            user_id: Some(user(name).uuid()),
            identity_id: None,
            channel_kind: None,
            account: None,
            address: None,
        }
    }

    pub async fn join(&mut self, db: &mut PgConnection, name: &str) {
        self.sequence += 1;
        let stay = self.stay(name);
        participant::write(db, std::slice::from_ref(&stay))
            .await
            .unwrap();
        self.stays.push(stay);
        self.touch(db).await;
    }

    /// Somebody outside joins, with an identity.
    pub async fn join_contact(&mut self, db: &mut PgConnection, number: u128) {
        self.sequence += 1;
        let address = format!("4915100000{number:03}");
        let stay = participant::Row {
            participant_id: self.contact(number).uuid(),
            user_id: None,
            identity_id: Some(identity_of(number).uuid()),
            channel_kind: Some("whatsapp".to_owned()),
            account: Some("whatsapp-main".to_owned()),
            address: Some(address.clone()),
            ..self.stay("nobody")
        };
        participant::write(db, std::slice::from_ref(&stay))
            .await
            .unwrap();
        self.stays.push(stay);
        let known = identity::Row {
            identity_id: identity_of(number).uuid(),
            partition: PARTITION,
            kind: "whatsapp".to_owned(),
            address,
            name: Some(format!("Customer {number}")),
            first_seen_at: at(self.sequence),
            first_sequence: self.sequence,
        };
        identity::write(db, &[known]).await.unwrap();
        self.touch(db).await;
    }

    pub async fn leave(&mut self, db: &mut PgConnection, name: &str) {
        self.sequence += 1;
        let (who, sequence) = (self.participant(name).uuid(), self.sequence);
        let mut stays = self.stays.iter_mut();
        let open = |stay: &&mut participant::Row| {
            stay.participant_id == who && stay.left_sequence.is_none()
        };
        let stay = stays.find(open).expect("they are in it");
        stay.left_sequence = Some(sequence);
        stay.left_at = Some(at(sequence));
        participant::write(db, std::slice::from_ref(stay))
            .await
            .unwrap();
        self.touch(db).await;
    }

    /// Somebody says something: the sequence it has.
    pub async fn say(&mut self, db: &mut PgConnection, name: &str, text: &str) -> i64 {
        self.sequence += 1;
        let row = self.message(name, text);
        self.row.last_message_id = Some(row.message_id);
        self.row.message_count += 1;
        message::insert(db, &[row]).await.unwrap();
        self.touch(db).await;
        self.sequence
    }

    pub fn message(&self, name: &str, text: &str) -> message::Row {
        message::Row {
            conversation_id: self.id.uuid(),
            message_id: self.message_id(self.sequence).uuid(),
            partition: PARTITION,
            sequence: self.sequence,
            author: self.participant(name).uuid(),
            origin: "api".to_owned(),
            account: None,
            content_type: "text".to_owned(),
            content_text: Some(text.to_owned()),
            placeholder: None,
            occurred_at: at(self.sequence),
            recorded_at: at(self.sequence),
            valid_until: at(self.sequence + 86_400),
        }
    }

    pub fn message_id(&self, sequence: i64) -> MessageId {
        let number = self.id.uuid().as_u128() << 64 | sequence.unsigned_abs() as u128;
        MessageId::new(Uuid::from_u128(number))
    }

    /// Deliveries of the message at `said` to these contacts, in these states.
    pub async fn deliver(&mut self, db: &mut PgConnection, said: i64, to: &[(u128, &str)]) {
        let mut rows = Vec::new();
        let mut events = Vec::new();
        for (n, (number, status)) in (0..).zip(to) {
            self.sequence += 1;
            let step = |reached: &[&str]| reached.contains(status).then(|| at(self.sequence));
            let failed = *status == "FAILED";
            rows.push(delivery::Row {
                conversation_id: self.id.uuid(),
                message_id: self.message_id(said).uuid(),
                n,
                partition: PARTITION,
                kind: "whatsapp".to_owned(),
                account: "whatsapp-main".to_owned(),
                participant_id: self.contact(*number).uuid(),
                address: Some(format!("4915100000{number:03}")),
                status: (*status).to_owned(),
                generation: 0,
                first_attempt: 0,
                attempts: 1,
                attempted_at: Some(at(self.sequence)),
                sent_at: step(&["SENT", "DELIVERED", "READ"]),
                delivered_at: step(&["DELIVERED", "READ"]),
                read_at: step(&["READ"]),
                failed_at: step(&["FAILED"]),
                failure_class: failed.then(|| "PERMANENT".to_owned()),
                failure_reason: failed.then(|| "RECIPIENT_NOT_REACHABLE".to_owned()),
                provider_code: failed.then(|| "131026".to_owned()),
                deferred_until: None,
                deferred_class: None,
                deferred_reason: None,
                last_sequence: self.sequence,
            });
            let mut event = |event_index, event_type: &str, details| {
                events.push(delivery_event::Row {
                    conversation_id: self.id.uuid(),
                    message_id: self.message_id(said).uuid(),
                    n,
                    sequence: self.sequence,
                    event_index,
                    event_type: event_type.to_owned(),
                    attempt: Some(1),
                    occurred_at: at(self.sequence),
                    recorded_at: at(self.sequence),
                    details,
                });
            };
            event(0, "DeliveryAttempted", json!({ "owner": "worker-1" }));
            if failed {
                let why = json!({
                    "class": "PERMANENT", "reason": "RECIPIENT_NOT_REACHABLE", "provider_code": "131026"
                });
                event(1, "DeliveryFailed", why);
            } else if *status != "PENDING" {
                event(1, "DeliverySent", json!({}));
            }
        }
        delivery::write(db, &rows).await.unwrap();
        delivery_event::insert(db, &events).await.unwrap();
    }

    /// Somebody's mark is put at the message at `up_to`.
    pub async fn mark(&mut self, db: &mut PgConnection, name: &str, up_to: i64) {
        self.sequence += 1;
        let row = reader::Row {
            conversation_id: self.id.uuid(),
            participant_id: self.participant(name).uuid(),
            message_id: self.message_id(up_to).uuid(),
            up_to_sequence: up_to,
            read_at: at(self.sequence),
        };
        reader::write(db, &[row]).await.unwrap();
    }

    async fn touch(&mut self, db: &mut PgConnection) {
        self.row.last_activity_at = at(self.sequence);
        self.row.last_sequence = self.sequence;
        conversation::write(db, std::slice::from_ref(&self.row))
            .await
            .unwrap();
    }
}

/// The projector has folded everything up to `last`.
pub async fn fold(db: &mut PgConnection, first: i64, last: i64) {
    let partition = chat4all_domain::Partition::new(7).expect("below 64");
    checkpoint::ensure(db, &[partition]).await.unwrap();
    let run = checkpoint::Run {
        partition,
        first: first.unsigned_abs(),
        last: last.unsigned_abs(),
        recorded_at: Timestamp::from(at(last)),
    };
    assert!(checkpoint::advance(db, &[run]).await.unwrap());
}
