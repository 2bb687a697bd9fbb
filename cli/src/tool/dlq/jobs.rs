//! `chat4all dlq jobs|cancel|resume`: redrives, and how far they are.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chat4all_channel_bridges::redrive::{self, Error, Id, Job, Jobs, State};
use chat4all_service::{Chain, Config, clock};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::tool::{line, note, open_log, parse_id, parse_name, who};

/// Some could not be tried again.
const SOME_REFUSED: u8 = 3;
/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A killed worker is followed by another within this time.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);

/// Flags of `chat4all dlq jobs`.
#[derive(Debug, Args)]
pub struct List {
    /// Only this one.
    #[arg(value_name = "JOB", value_parser = parse_id::<Id>)]
    job: Option<Id>,
    /// Look on until it has ended.
    #[arg(long, requires = "job")]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An operator's word to one job.
#[derive(Debug, Args)]
pub struct Word {
    /// The job, as `jobs` shows it.
    #[arg(value_name = "JOB", value_parser = parse_id::<Id>)]
    job: Id,
    /// Who you are; without it, who is logged in.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    by: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows jobs.
///
/// # Errors
/// The broker does not answer, or there is no such job.
pub async fn list(config: &Config, list: &List) -> anyhow::Result<ExitCode> {
    let jobs = Jobs::new(&open_log(config, "dlq").await?);
    match list.job {
        Some(id) if list.watch => follow(&jobs, id, list.json).await,
        Some(id) => print(&jobs.get(id).await?, list.json),
        None => {
            let all = jobs.all().await?;
            if list.json {
                let all = all.iter().map(value).collect::<Result<Vec<_>, _>>()?;
                line(Value::from(all))?;
                return Ok(ExitCode::SUCCESS);
            }
            if all.is_empty() {
                line("no redrives in the last 90 days")?;
            }
            for job in &all {
                line(Shown(job))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Cancels or resumes a job.
///
/// # Errors
/// It is done, unknown, or the broker does not answer.
pub async fn say(config: &Config, word: &Word, cancel: bool) -> anyhow::Result<ExitCode> {
    let by = who(word.by.as_deref());
    let jobs = Jobs::new(&open_log(config, "dlq").await?);
    let at = clock::now().into();
    let said = redrive::Word { cancel, by, at };
    print(&jobs.say(word.job, &said).await?, word.json)
}

/// One job, with what was refused.
///
/// # Errors
/// Standard output is closed.
pub fn print(job: &Job, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        line(value(job)?)?;
    } else {
        line(Shown(job))?;
        for refused in &job.progress.refusals {
            line(format_args!("  refused  {}: {}", refused.id, refused.why))?;
        }
    }
    let all_well = job.progress.refused == 0;
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_REFUSED)
    })
}

/// Looks on until the job has ended; a broker that is away is waited for.
///
/// # Errors
/// There is no such job, or it cannot be read.
pub async fn follow(jobs: &Jobs, id: Id, as_json: bool) -> anyhow::Result<ExitCode> {
    let (begun, mut seen, mut warned, mut away) = (Instant::now(), None, false, false);
    loop {
        match jobs.get(id).await {
            Ok(job) => {
                away = false;
                match job.state {
                    State::Done | State::Cancelled | State::Stopped => return print(&job, as_json),
                    State::Waiting if !warned && begun.elapsed() > TAKEN_WITHIN => {
                        warned = true;
                        note(
                            "nobody works on it yet: are bridges up? It begins as soon as one is.",
                        );
                    }
                    State::Waiting | State::Running => {}
                }
                let place = (job.state, job.progress.next);
                if seen != Some(place) {
                    seen = Some(place);
                    if as_json {
                        line(value(&job)?)?;
                    } else {
                        line(Shown(&job))?;
                    }
                }
            }
            Err(error @ (Error::Away(_) | Error::Unlisted(_) | Error::Outdated)) => {
                if !std::mem::replace(&mut away, true) {
                    let why = Chain(&error);
                    note(format_args!("the job cannot be looked at now: {why}"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The job for programs, with what is left.
fn value(job: &Job) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(job).context("a struct of words and numbers")?;
    value["done"] = json!(job.progress.next);
    value["seconds_left"] = json!(seconds_left(job));
    Ok(value)
}

/// By the rate of late; none when it does not move.
fn seconds_left(job: &Job) -> Option<u64> {
    let left = job.definition.total.saturating_sub(job.progress.next);
    let moves = job.state == State::Running && job.progress.per_s > 0.0;
    let left = f64::from(u32::try_from(left).unwrap_or(u32::MAX));
    moves.then(|| Duration::from_secs_f64(left / job.progress.per_s).as_secs())
}

/// One line for people.
struct Shown<'a>(&'a Job);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(job) = self;
        let (definition, progress) = (&job.definition, &job.progress);
        let (id, state, total) = (definition.id, job.state.as_str(), definition.total);
        write!(
            f,
            "{id}  {state:<9}  {} of {total}: {} redriven, {} skipped, {} refused",
            progress.next, progress.redriven, progress.skipped, progress.refused
        )?;
        if let Some(seconds) = seconds_left(job) {
            write!(f, "; {:.1}/s, {seconds} s left", progress.per_s)?;
        }
        let (what, by, at) = (&definition.what, &definition.by_name, definition.at);
        write!(f, "  ({what}, by {by} at {at})")
    }
}

#[cfg(test)]
mod tests {
    use chat4all_channel_bridges::redrive::{Definition, Progress};
    use chat4all_domain::{Timestamp, UserId};

    use super::*;

    fn running(per_s: f64) -> Job {
        Job {
            definition: Definition {
                id: "019ace5e-0000-7000-8000-000000000001".parse().unwrap(),
                by: UserId::derive("test", "anna"),
                by_name: "anna".to_owned(),
                at: Timestamp::from_unix_ms(0),
                what: "all".to_owned(),
                rate_per_s: 2,
                total: 40,
            },
            state: State::Running,
            progress: Progress {
                next: 10,
                redriven: 7,
                skipped: 2,
                refused: 1,
                per_s,
                ..Progress::default()
            },
            word: None,
        }
    }

    #[test]
    fn a_running_jobs_line_says_how_fast_it_is_and_how_long_it_takes_when_it_moves() {
        assert_eq!(
            Shown(&running(2.5)).to_string(),
            "019ace5e-0000-7000-8000-000000000001  running    10 of 40: 7 redriven, 2 skipped, 1 refused; 2.5/s, 12 s left  (all, by anna at 1970-01-01T00:00:00.000Z)"
        );
        assert_eq!(
            Shown(&running(0.0)).to_string(),
            "019ace5e-0000-7000-8000-000000000001  running    10 of 40: 7 redriven, 2 skipped, 1 refused  (all, by anna at 1970-01-01T00:00:00.000Z)"
        );
    }
}
