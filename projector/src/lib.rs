#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

mod batch;
mod conversations;
mod deliveries;
mod delivery_events;
mod identities;
mod intake;
mod lag;
mod messages;
mod metrics;
mod participants;
mod projector;
mod readers;
pub mod rebuild;
mod rows;
mod session;
mod trace;
mod transaction;

pub use metrics::Metrics;
pub use projector::{Config, Error, Projector};
