//! What we promise, held against a running `chat4all up`: asked and told only what anybody may ask and tell it, over HTTP,
//! with the broker read as its operator would.

mod group;
mod receipts;
mod same_key;
mod strings;
pub mod system;
