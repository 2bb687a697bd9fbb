//! Dead letters from the command line, each test against a `chat4all up` with real processes.

mod cancelled;
mod killed;
mod listed;
mod parked;
mod redriven;
mod scene;
mod without_postgres;
