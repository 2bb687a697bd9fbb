//! Following live, through `chat4all up`: as those see it who subscribe, are cut off, come back, fall behind, or may not see it.

mod client;
mod connections;
mod follower;
mod resume;
mod sight;
mod slow;
