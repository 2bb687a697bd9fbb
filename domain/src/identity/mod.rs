//! Somebody outside: one identity per address, made on first contact, whoever meets them first.
//!
//! Small enough to be one file: two commands, two events.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::event::AggregateId;
use crate::{Address, ChannelKind, IdentityId, Text, Timestamp};

/// The longest display name, in Unicode scalar values; what a provider sends beyond it is cut off.
pub const MAX_NAME_CHARS: usize = 200;

impl AggregateId for IdentityId {
    fn path(&self) -> String {
        format!("identity.{self}")
    }
    fn from_path(path: &str) -> Option<Self> {
        path.strip_prefix("identity.")?.parse().ok()
    }
    fn partition_key(&self) -> Uuid {
        self.uuid()
    }
}

/// What one may ask of an identity.
#[derive(Clone, Debug)]
pub enum Command {
    /// We have met this address, perhaps with a name. Who is known under the same name already: nothing changes.
    Meet {
        /// The channel's kind.
        kind: ChannelKind,
        /// The address there.
        address: Address,
        /// What they call themselves, if the channel told us.
        name: Option<Text>,
        /// When.
        at: Timestamp,
    },
}

impl Command {
    /// The command's name for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Meet { .. } => "MeetIdentity",
        }
    }
}

/// What can have happened to an identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// First contact.
    #[serde(rename = "IdentityRegistered")]
    Registered {
        /// On which channel, when.
        facts: Registered,
        /// Address and name.
        personal: RegisteredPersonal,
    },
    /// They call themselves something else now.
    #[serde(rename = "IdentityNamed")]
    Named {
        /// When.
        facts: Named,
        /// The name.
        personal: NamedPersonal,
    },
}

impl crate::Event for Event {
    const TYPES: &'static [(&'static str, u16)] =
        &[("IdentityRegistered", 1), ("IdentityNamed", 1)];

    fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "IdentityRegistered",
            Self::Named { .. } => "IdentityNamed",
        }
    }

    fn read<'de, D: Deserializer<'de>>(
        name: &str,
        mut parts: crate::Parts<D>,
    ) -> Result<Self, D::Error> {
        Ok(match name {
            "IdentityRegistered" => Self::Registered {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            "IdentityNamed" => Self::Named {
                facts: parts.facts()?,
                personal: parts.personal()?,
            },
            _ => return Err(crate::event::unknown(name)),
        })
    }
}

crate::event::domain_event!(Event);

/// The facts of `IdentityRegistered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The channel's kind.
    pub kind: ChannelKind,
    /// When.
    pub occurred_at: Timestamp,
}

/// The personal part of `IdentityRegistered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredPersonal {
    /// The address.
    pub address: Address,
    /// What they call themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
}

/// The facts of `IdentityNamed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// When.
    pub occurred_at: Timestamp,
}

/// The personal part of `IdentityNamed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPersonal {
    /// What they call themselves now.
    pub name: Text,
}

/// An identity cannot be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {}

/// What an identity's events add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// Never met.
    #[default]
    Unknown,
    /// Met.
    Known {
        /// What they call themselves.
        name: Option<Text>,
    },
}

impl Identity {
    /// What `command` means for this identity now.
    ///
    /// # Errors
    /// None: [`Rejection`] has no values.
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        let Command::Meet {
            kind,
            address,
            name,
            at,
        } = command;
        match (self, name) {
            (Self::Unknown, name) => Ok(vec![Event::Registered {
                facts: Registered {
                    kind: *kind,
                    occurred_at: *at,
                },
                personal: RegisteredPersonal {
                    address: address.clone(),
                    name: name.clone(),
                },
            }]),
            (Self::Known { name: known }, Some(name)) if known.as_ref() != Some(name) => {
                Ok(vec![Event::Named {
                    facts: Named { occurred_at: *at },
                    personal: NamedPersonal { name: name.clone() },
                }])
            }
            (Self::Known { .. }, Some(_) | None) => Ok(vec![]),
        }
    }

    /// This identity after `event`. Total: an event that cannot follow changes nothing.
    #[must_use]
    pub fn evolve(self, event: &Event) -> Self {
        match (self, event) {
            (Self::Unknown, Event::Registered { personal, .. }) => Self::Known {
                name: personal.name.clone(),
            },
            (Self::Known { .. }, Event::Named { personal, .. }) => Self::Known {
                name: Some(personal.name.clone()),
            },
            (known @ Self::Known { .. }, Event::Registered { .. }) => known,
            (Self::Unknown, Event::Named { .. }) => Self::Unknown,
        }
    }
}

crate::event::aggregate!(Identity, IdentityId, Command, Event, Rejection, "identity");
