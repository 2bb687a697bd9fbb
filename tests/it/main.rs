//! Whole-system tests.

mod architecture;
mod command_api;
mod supervisor;
