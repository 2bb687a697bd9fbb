//! Hours of trouble and several workers, seconds long: each against a `chat4all up` with real processes.

mod breaker;
mod clean_stop;
mod expired;
mod held;
mod inbound;
mod load;
mod owner;
mod pair;
mod redrive;
mod shared;
pub mod site;
mod three;
mod token;
mod unrenewed;
mod woken;
