//! Events in, rows out.
