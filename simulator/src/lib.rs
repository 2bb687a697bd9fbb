#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod account;
mod args;
mod calls;
mod clock;
mod config;
mod connection;
mod control;
mod fault;
mod graph;
mod phone;
mod receipts;
mod simulator;
mod sync;
mod wamid;
mod webhook;
mod world;

pub use args::{Args, ArgsError};
pub use config::{AccountConfig, Config, Millis, Settings};
pub use simulator::{RunError, Running, Simulator, run};
