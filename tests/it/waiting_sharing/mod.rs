//! Hours of trouble and several workers, seconds long: each against a `chat4all up` with real processes.

mod held;
mod load;
mod pair;
mod shared;
mod site;
mod three;
mod token;
