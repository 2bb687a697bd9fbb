//! Whole-system tests, through public APIs, on real servers. One binary, because linking is what takes long.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod architecture;
mod backup;
mod bench;
mod bridges;
mod browser;
mod cli;
mod command_api;
mod commit_under_fault;
mod dlq;
mod doctor;
mod guarantees;
mod journeys;
mod leases;
mod live;
mod log;
mod operations;
mod place;
mod projector;
mod query_api;
mod reading_under_fault;
mod rebuild;
mod supervisor;
mod support;
mod tour;
mod waiting;
mod waiting_sharing;
mod whole_system;
