//! Whole-system tests, through public APIs, on real servers. One binary, because linking is what takes long.

mod architecture;
mod commit_under_fault;
mod leases;
mod log;
mod query_api;
mod reading_under_fault;
mod supervisor;
mod support;
