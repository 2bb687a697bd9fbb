//! The simulator over real HTTP, with a real webhook receiver that checks the signature over the raw bytes.

#![expect(
    clippy::unwrap_used,
    reason = "clippy's exception for tests does not reach helpers of an integration test"
)]

mod control;
mod errors;
mod faults;
mod load;
mod page;
mod send;
mod support;
mod webhooks;
