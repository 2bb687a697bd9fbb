use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::conversation::{Event, Kind, Who};
use crate::{Address, Fingerprint, ParticipantId, UserId};

/// What a conversation's events add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Conversation {
    /// Nobody has started it.
    #[default]
    Absent,
    /// It exists.
    Started {
        /// Direct or group.
        kind: Kind,
        /// Tells a repeated start from a different one.
        fingerprint: Option<Fingerprint>,
        /// Who is in it now.
        present: BTreeMap<ParticipantId, Present>,
    },
}

/// Somebody who is in the conversation now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// A user, or somebody outside.
    pub who: Who,
    /// The address of somebody outside.
    pub address: Option<Address>,
}

impl Conversation {
    /// Who is in it now, by participant id.
    pub fn present(&self) -> impl Iterator<Item = (ParticipantId, &Present)> {
        let present = match self {
            Self::Absent => None,
            Self::Started { present, .. } => Some(present),
        };
        present.into_iter().flatten().map(|(id, who)| (*id, who))
    }
    /// The participant id of `user`, if they are in it now.
    pub fn participant_of(&self, user: UserId) -> Option<ParticipantId> {
        self.present()
            .find(|(_, present)| present.who == Who::User { user })
            .map(|(id, _)| id)
    }
    /// Whether anybody has started it.
    pub const fn exists(&self) -> bool {
        matches!(self, Self::Started { .. })
    }

    /// This state after `event`. Total: an event that cannot follow changes nothing.
    #[must_use]
    pub fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (Self::Absent, Event::Started { facts, personal }) => {
                let present = facts.participants.iter().map(|participant| {
                    let address = personal.addresses.get(&participant.participant).cloned();
                    (
                        participant.participant,
                        Present {
                            who: participant.who.clone(),
                            address,
                        },
                    )
                });
                Self::Started {
                    kind: facts.kind,
                    fingerprint: facts.fingerprint,
                    present: present.collect(),
                }
            }
            (
                Self::Started {
                    kind,
                    fingerprint,
                    mut present,
                },
                Event::Joined { facts, personal },
            ) => {
                let who = facts.participant.who.clone();
                present.insert(
                    facts.participant.participant,
                    Present {
                        who,
                        address: personal.address.clone(),
                    },
                );
                Self::Started {
                    kind,
                    fingerprint,
                    present,
                }
            }
            (
                Self::Started {
                    kind,
                    fingerprint,
                    mut present,
                },
                Event::Left { facts },
            ) => {
                present.remove(&facts.participant);
                Self::Started {
                    kind,
                    fingerprint,
                    present,
                }
            }
            (started @ Self::Started { .. }, Event::Started { .. }) => started,
            (Self::Absent, Event::Joined { .. } | Event::Left { .. }) => Self::Absent,
        }
    }
}
