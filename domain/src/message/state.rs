use serde::{Deserialize, Serialize};

use crate::message::{Event, PlannedDelivery};
use crate::{Fingerprint, ParticipantId};

/// What a message's events add up to. The text is not kept: no decision needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Nobody has sent it yet.
    #[default]
    Absent,
    /// It was taken in.
    Accepted {
        /// Who wrote it.
        author: ParticipantId,
        /// Tells a repeat from a different request.
        fingerprint: Fingerprint,
        /// Everybody outside who is to get it.
        deliveries: Vec<PlannedDelivery>,
    },
}

impl Message {
    /// This state after `event`. Total: an event that cannot follow changes nothing.
    #[must_use]
    pub fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (Self::Absent, Event::Accepted { facts, .. }) => Self::Accepted {
                author: facts.author,
                fingerprint: facts.fingerprint,
                deliveries: facts.deliveries.clone(),
            },
            (accepted @ Self::Accepted { .. }, Event::Accepted { .. }) => accepted,
        }
    }
}
