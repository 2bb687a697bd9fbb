#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod append;
pub mod backup;
pub mod cache;
pub mod codec;
pub mod connect;
mod direct;
pub mod event_store;
pub mod execute;
pub mod follower;
pub mod fullness;
pub mod lease;
pub mod load;
pub mod log;
pub mod parked;
pub mod range;
pub mod reader;
pub mod resolved;
pub mod store;
pub mod streams;
pub mod subject;

pub use async_nats::Client;
pub use codec::Change;
pub use direct::{Error as ReadError, Stored};
pub use execute::{Context, Executed, Retry};
pub use log::Log;
pub use reader::Feed;
pub use store::Store;
