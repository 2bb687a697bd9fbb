//! Reading the read models: what queries ask, one statement each.
//!
//! Every function takes all keys of a page at once, pages by keys (never by offset), and leans on an index of
//! `migrations/`. Visibility is part of the statement: a row that the reader may not see does not come back, so that no
//! caller can forget to look.
//!
//! One file per read model here too: `conversations.rs`, `participants.rs`, `messages.rs`, `deliveries.rs`, `marks.rs`,
//! `identities.rs`; and two for operators, who see them whoever takes part: `failed_deliveries.rs`, `poison_events.rs`. How far they all have come is [`crate::projected`]'s.

mod column;
mod connection;
pub mod conversations;
pub mod deliveries;
pub mod failed_deliveries;
mod horizon;
pub mod identities;
pub mod marks;
pub mod messages;
pub mod participants;
pub mod poison_events;
mod refused;
mod slice;

pub(crate) use connection::Lease;
pub use connection::{Error, Reads};
pub(crate) use refused::Refused;
pub use slice::{Range, Slice};

use chat4all_domain::UserId;

/// Through whose eyes rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Sees what their stays cover.
    pub user: UserId,
    /// Sees everything, whoever they are.
    pub sees_all: bool,
}
