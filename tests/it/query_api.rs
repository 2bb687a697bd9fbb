//! GraphQL and REST over a real Postgres: rows are written by the projector's own statements, read over HTTP.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod away;
mod dead_letters;
mod explorer;
mod limits;
mod pages;
mod parked;
mod rows;
mod shapes;
mod statements;
mod visibility;
mod wire;
mod world;
