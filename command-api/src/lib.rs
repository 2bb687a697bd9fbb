#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod accounts;
mod api;
mod commands;
mod direct;
mod metrics;
mod openapi;
mod problem;
mod request;
mod start;

pub use accounts::{Accounts, UnknownChannel};
pub use api::{CommandApi, Deps, Settings, Stores};
pub use commands::REPLAY;
pub use metrics::{CommandMetrics, Outcome};
pub use request::IDEMPOTENCY_KEY;
pub use start::{Running, start};
