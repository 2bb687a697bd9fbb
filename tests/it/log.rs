//! What the log promises, each promise on a real broker.

mod create;
mod follower;
mod framework;
mod full;
mod headers;
mod history;
mod outage;
mod panic;
mod provisioning;
mod queue;
mod stale;
