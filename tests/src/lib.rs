//! Whole-system tests through public APIs.
