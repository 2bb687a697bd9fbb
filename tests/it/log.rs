//! What the log promises, each promise on a real broker.

mod follower;
mod full;
mod outage;
