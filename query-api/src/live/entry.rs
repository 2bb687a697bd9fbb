//! One message of the log, decoded once and shared by everybody it is shown to.

use std::sync::OnceLock;

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use chat4all_domain::{ConversationId, Position, delivery};
use chat4all_nats::parked::Item;
use chat4all_nats::{Change, Stored, subject};

use super::body;
use super::lane::Lane;

/// What stands at one place of a lane.
pub struct Entry {
    /// The lane's number.
    pub lane: usize,
    /// The place within it.
    pub sequence: u64,
    /// When the log stored it, in milliseconds since 1970.
    pub stored_at_ms: i64,
    /// What it says.
    pub what: What,
    /// How large it is on the log, in bytes.
    pub size_bytes: usize,
    data: OnceLock<Bytes>,
    frames: OnceLock<Vec<Utf8Bytes>>,
}

/// What an entry says.
pub enum What {
    /// Something about a conversation.
    Changed(Change),
    /// An event that this release cannot read.
    Unreadable {
        /// Where it stands.
        position: Position,
        /// The conversation its subject names.
        conversation: Option<ConversationId>,
        /// What is wrong with it.
        error: String,
    },
    /// Something that came in and was put aside.
    Parked(Item),
}

impl Entry {
    /// One that says nothing.
    #[cfg(test)]
    pub fn of_size(size_bytes: usize) -> Self {
        let what = What::Unreadable {
            position: Position::new(
                chat4all_domain::Partition::new(0).expect("there is always a first"),
                1,
            ),
            conversation: None,
            error: String::new(),
        };
        Self {
            lane: 0,
            sequence: 1,
            stored_at_ms: 0,
            what,
            size_bytes,
            data: OnceLock::new(),
            frames: OnceLock::new(),
        }
    }

    /// Decodes what stands on `lane`; `None` for what nobody can follow: identities.
    pub fn decode(lane: &Lane, stored: Stored) -> Option<Self> {
        let (sequence, size_bytes) = (stored.sequence, stored.payload.len());
        let ms = stored.stored_at_ns.div_euclid(1_000_000);
        let what = match lane.partition {
            None => What::Parked(stored.into()),
            Some(partition) => match Change::read(&stored.subject, sequence, &stored.payload) {
                Ok(Change::Identity(..)) => return None,
                Ok(change) => What::Changed(change),
                Err(error) => What::Unreadable {
                    position: Position::new(partition, sequence),
                    conversation: subject::conversation(&stored.subject),
                    error: error.to_string(),
                },
            },
        };
        Some(Self {
            lane: lane.number,
            sequence,
            stored_at_ms: i64::try_from(ms).unwrap_or(i64::MAX),
            what,
            size_bytes,
            data: OnceLock::new(),
            frames: OnceLock::new(),
        })
    }

    /// The conversation whose participants may see it; `None` for what is for operators alone.
    pub fn conversation(&self) -> Option<ConversationId> {
        match &self.what {
            What::Changed(Change::Conversation(id, _)) => Some(*id),
            What::Changed(Change::Message(id, _)) => Some(id.conversation),
            What::Changed(Change::Delivery(id, _)) => Some(id.conversation),
            What::Changed(Change::Reader(id, _)) => Some(id.conversation),
            What::Changed(Change::Identity(..)) | What::Unreadable { .. } | What::Parked(_) => None,
        }
    }

    /// Whether somebody must look at it.
    pub fn is_dead_letter(&self) -> bool {
        match &self.what {
            What::Changed(Change::Delivery(_, events)) => events
                .iter()
                .any(|event| matches!(event.event, delivery::Event::Failed { .. })),
            What::Changed(_) => false,
            What::Unreadable { .. } | What::Parked(_) => true,
        }
    }

    /// The data of a server-sent event, the same for everybody.
    pub fn data(&self) -> Bytes {
        self.data.get_or_init(|| body::data(self)).clone()
    }

    /// The frames of notifications, the same for everybody.
    pub fn frames(&self) -> &[Utf8Bytes] {
        self.frames.get_or_init(|| body::frames(self))
    }
}
