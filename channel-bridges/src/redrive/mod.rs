//! Dead letters tried again, many at a time: jobs that outlive whoever asked for them.
//!
//! A job is written to the bucket `REDRIVES` with its whole list before anything happens ([`Jobs::add`]). One bridge worker
//! works it off from the front, one item after the other, and notes how far it has come. So order is that of the list, and a
//! killed worker is followed by another one.
//!
//! Guarantee: each failure is redriven once, however many workers and jobs have it on their lists. It rests on the aggregate,
//! which refuses to redrive another generation than the list names, and on ids that are derived from what came in; the lease
//! only keeps two workers from doing the same. Limit: what a killed worker had done since it last noted its place (a second at
//! most) is done again, changes nothing, and is counted as skipped.
//!
//! Source: docs/adr/0018-redrive-jobs.md.

mod item;
mod job;
mod jobs;
mod run;
mod worker;

pub use job::{
    Definition, Id, Item, Job, MAX_ITEMS, MAX_RATE, NewJob, Progress, Refused, State, Word,
};
pub use jobs::{Error, Jobs};
pub(crate) use worker::Redriver;
