//! Leases share partitions: evenly, never to two at a time on a healthy broker, and back to work soon after trouble.

mod sharing;
mod trouble;
mod worker;
