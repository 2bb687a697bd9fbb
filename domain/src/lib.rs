#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

pub mod channel;
pub mod conversation;
pub mod delivery;
pub mod event;
pub mod id;
pub mod identity;
pub mod message;
pub mod position;
pub mod reader;
pub mod secret;
#[cfg(test)]
mod spec;
pub mod text;
pub mod timestamp;

pub use channel::{AccountId, Address, ChannelKind};
pub use conversation::Conversation;
pub use delivery::Delivery;
pub use event::{Aggregate, AggregateId, Event, Parts, Recorded};
pub use id::{CommandId, ConversationId, IdentityId, MessageId, ParticipantId, UserId};
pub use identity::Identity;
pub use message::Message;
pub use position::{Partition, PartitionCount, Position, Revision};
pub use reader::Reader;
pub use secret::{Fingerprint, IdSecret};
pub use text::Text;
pub use timestamp::Timestamp;
