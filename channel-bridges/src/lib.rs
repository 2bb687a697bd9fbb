#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

pub mod accounts;
mod bucket;
pub mod channel;
mod clock;
pub mod config;
mod gate;
mod http;
mod inbound;
mod mark;
mod metrics;
mod outbound;
mod receipts;
pub mod redrive;
pub mod reference;
mod run;
pub mod state;
pub mod whatsapp;

pub use config::Config;
pub use gate::breaker::Breaker;
pub use outbound::Error as RunError;
pub use run::{Bridges, Error};
