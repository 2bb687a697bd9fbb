//! Whole-system tests.

mod architecture;
mod supervisor;
