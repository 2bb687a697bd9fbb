#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod auth;
pub mod chain;
pub mod clock;
pub mod config;
pub mod health;
pub mod http;
pub mod metrics;
pub mod problem;
pub mod shutdown;
pub mod telemetry;

pub use chain::Chain;
pub use config::Config;
pub use problem::Problem;
pub use shutdown::Shutdown;
