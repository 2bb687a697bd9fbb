//! What every command reads in the same way, before its body: who calls and may, until when it may take and on what it
//! must have been decided, under which key it is repeated. Then the pieces that bodies are made of.

mod allowed;
mod call;
mod id;
mod idempotency;
mod mistakes;
pub(crate) mod party;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use allowed::{Allowed, ConversationsWrite, DeliveriesRedrive, MessagesWrite};
pub(crate) use call::Call;
pub(crate) use id::{BodyId, Id};
pub use idempotency::IDEMPOTENCY_KEY;
pub(crate) use idempotency::Key;
pub(crate) use mistakes::Mistakes;
pub(crate) use party::{Party, PartyBody};
