#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod api;
mod batch;
mod cursor;
mod dead_letters;
mod explorer;
mod graphql;
mod live;
mod page;
mod problem;
mod rest;
mod rounds;
mod session;
mod status;

pub use api::{Models, QueryApi};
pub use graphql::sdl;
pub use live::{Limits, Live, Metrics};
