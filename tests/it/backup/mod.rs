//! `chat4all backup` and `chat4all restore`, by everything else being lost.

mod copies;
mod journey;
mod killed;
mod moves;
mod older;
mod refusals;
mod site;
pub mod stage;
mod typed;
