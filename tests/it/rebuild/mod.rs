//! Read models made anew beside the live ones, on a real log and a real Postgres, while commands come in, projectors
//! fold and readers read.

mod broker;
mod commit;
mod copied;
mod cut_off;
mod differences;
mod held;
mod kept;
mod poison;
pub mod process;
mod roles;
pub mod scene;
mod speed;
mod swap;
mod twice;
