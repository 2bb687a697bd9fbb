//! The bridges on a real nats-server and the real simulator, over HTTP: what a message goes through, out and in.

mod inbound;
mod outbound;
mod rate;
mod second_look;
mod sharing;
pub mod stage;
mod takeover;
mod trouble;
mod unrenewed;
mod waits;
mod woken;
