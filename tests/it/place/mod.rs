//! What is shipped to run it somewhere: compose.yaml, the image, the units, the rules and the dashboard. No container engine
//! is needed: each file is held against the binary it speaks of, and what Compose, promtool and systemd themselves say is in
//! [`extended`].

mod broker;
mod compose;
mod dashboards;
mod expressions;
mod extended;
mod files;
mod image;
mod labels;
mod units;
mod watching;

pub use dashboards::are_all_on;
pub use files::read as read_page;
