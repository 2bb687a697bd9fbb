//! The read models in Postgres: tables, rows, and the statements that write and read them.
//!
//! One file per read model: the row, and what the projector writes and loads. What the query API reads is beside it in
//! [`read`], because it is asked by page and by reader, not by row.
//! Tables live in a [`Schema`] of their own, which the connection's `search_path` names and no statement does.
//!
//! What it is not: it decides nothing. Which row follows from which event is the projector's knowledge.

#![warn(missing_docs)]

pub mod checkpoint;
mod columns;
pub mod connect;
pub mod conversation;
mod copy;
pub mod dead_letter;
pub mod delivery;
pub mod delivery_event;
pub mod dump;
pub mod identity;
pub mod message;
pub mod migrate;
pub mod migrated;
pub mod participant;
pub mod projected;
pub mod read;
pub mod reader;
pub mod rebuild;
pub mod refusal;

pub use connect::{Config, Schema};
pub use projected::Projected;
