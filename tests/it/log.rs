//! The log's basics.
