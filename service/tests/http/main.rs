//! The server's manners, seen by a real client over a real connection.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something is missing"
)]

mod server;

mod manners;
mod refusals;
mod stopping;
