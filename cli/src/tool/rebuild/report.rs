//! How a rebuild goes: for a terminal one line that changes, for a file a line now and then, for a program JSON.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use chat4all_domain::Timestamp;
use chat4all_projector::rebuild::{Phase, Progress};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::RebuildCommand;
use crate::tool::{note, say};

/// For whom the progress is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Somebody who looks on.
    Terminal { verbose: bool },
    /// Somebody who reads it later.
    Lines { verbose: bool },
    /// A program.
    Json,
}

impl Form {
    pub fn of(command: &RebuildCommand) -> Self {
        let verbose = command.verbose;
        match (command.json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal { verbose },
            (false, false) => Self::Lines { verbose },
        }
    }
    const fn every(self) -> Duration {
        match self {
            Self::Terminal { .. } => Duration::from_millis(200),
            Self::Json => Duration::from_secs(1),
            Self::Lines { .. } => Duration::from_secs(5),
        }
    }
}

/// What is told, and since when.
#[derive(Clone, Debug)]
pub(super) struct Report {
    progress: watch::Receiver<Progress>,
    form: Form,
    begun: Instant,
}

/// How fast, and how long still.
struct Pace {
    /// Events per second, since folding began.
    rate: u64,
    left: Option<Duration>,
}

impl Report {
    pub fn new(progress: watch::Receiver<Progress>, form: Form) -> Self {
        let begun = Instant::now();
        Self {
            progress,
            form,
            begun,
        }
    }

    /// Tells until the rebuild is over.
    pub async fn keep_telling(mut self) -> anyhow::Result<()> {
        let mut phase = None;
        loop {
            let now = self.progress.borrow_and_update().clone();
            if phase.as_ref() != Some(&now.phase) {
                if now.phase == Phase::Folding {
                    self.begun = Instant::now();
                }
                self.end_line();
            }
            self.tell(&now)?;
            phase = Some(now.phase);
            let changed = self
                .progress
                .wait_for(|next| Some(&next.phase) != phase.as_ref());
            let changed = tokio::time::timeout(self.form.every(), changed).await;
            let is_over = matches!(changed, Ok(Err(_)));
            drop(changed);
            if is_over {
                self.end_line();
                return Ok(());
            }
        }
    }

    /// Events folded by now.
    pub fn folded(&self) -> u64 {
        self.progress.borrow().folded()
    }
    /// How long it took until now.
    pub fn took(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A line that is written over must not be written over by what follows.
    fn end_line(&self) {
        if matches!(self.form, Form::Terminal { .. }) {
            note("");
        }
    }

    fn tell(&self, progress: &Progress) -> anyhow::Result<()> {
        let pace = pace(progress, self.begun.elapsed());
        match self.form {
            Form::Json => say(as_json(progress, &pace))?,
            Form::Terminal { verbose } => {
                let partitions = if verbose {
                    as_list(progress)
                } else {
                    String::new()
                };
                let mut terminal = std::io::stderr().lock();
                write!(
                    terminal,
                    "\r\x1b[2K{}{partitions}",
                    as_text(progress, &pace)
                )?;
                terminal.flush()?;
            }
            Form::Lines { verbose } => {
                let partitions = if verbose {
                    as_list(progress)
                } else {
                    String::new()
                };
                note(format_args!("{}{partitions}", as_text(progress, &pace)));
            }
        }
        Ok(())
    }
}

fn pace(progress: &Progress, took: Duration) -> Pace {
    let (folded, total) = (progress.folded(), progress.total());
    let rate = folded as f64 / took.as_secs_f64().max(0.001);
    let known = progress.phase == Phase::Folding && folded > 0;
    let left = known.then(|| Duration::from_secs_f64(total.saturating_sub(folded) as f64 / rate));
    Pace {
        rate: rate as u64,
        left,
    }
}

fn as_text(progress: &Progress, pace: &Pace) -> String {
    let (folded, total) = (progress.folded(), progress.total());
    let so_far = || match (folded * 100).checked_div(total) {
        Some(percent) => format!("{folded} of {total} events ({percent} %)"),
        None => "no event folded yet".to_owned(),
    };
    match &progress.phase {
        Phase::Waiting(Some(holder)) => format!(
            "waiting      {}{}{} (backend {}) is rebuilding since {}: {}",
            holder.name,
            if holder.address.is_empty() {
                ""
            } else {
                " from "
            },
            holder.address,
            holder.backend_pid,
            Timestamp::from(holder.since),
            so_far()
        ),
        Phase::Waiting(None) => "waiting      somebody else is rebuilding".to_owned(),
        Phase::Preparing => "preparing    empty tables beside the live ones".to_owned(),
        // How much there is comes with the first look; an empty log has nothing to count either.
        Phase::Folding if total == 0 => "folding      from the first event on".to_owned(),
        Phase::Folding => {
            let left = pace.left.map_or_else(String::new, |left| {
                format!(", {} s left", left.as_secs_f64().ceil())
            });
            format!("folding      {}, {} events/s{left}", so_far(), pace.rate)
        }
        Phase::Finishing => "finishing    indexes and statistics".to_owned(),
        Phase::Comparing => "comparing    with the live tables".to_owned(),
        Phase::Swapping => "swapping".to_owned(),
        Phase::Asking => "asking       whether the swap went through".to_owned(),
        Phase::ClearingAway => "clearing     what is not needed any more".to_owned(),
    }
}

fn as_list(progress: &Progress) -> String {
    let each = progress.partitions.iter();
    each.map(|(partition, level)| format!("  {partition}: {}/{}", level.at, level.to))
        .collect()
}

fn as_json(progress: &Progress, pace: &Pace) -> Value {
    let holder = match &progress.phase {
        Phase::Waiting(holder) => holder.as_ref().map(|holder| {
            json!({ "backend_pid": holder.backend_pid, "name": holder.name, "address": holder.address,
                    "since": Timestamp::from(holder.since) })
        }),
        _ => None,
    };
    let partitions: Vec<Value> = progress
        .partitions
        .iter()
        .map(|(partition, level)| {
            json!({ "partition": partition.to_string(), "at": level.at, "to": level.to })
        })
        .collect();
    json!({
        "phase": word(&progress.phase),
        "events": progress.folded(),
        "of": progress.total(),
        "events_per_second": pace.rate,
        "seconds_left": pace.left.map(|left| left.as_secs_f64().ceil()),
        "waiting_for": holder,
        "partitions": partitions,
    })
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Waiting(_) => "waiting",
        Phase::Preparing => "preparing",
        Phase::Folding => "folding",
        Phase::Finishing => "finishing",
        Phase::Comparing => "comparing",
        Phase::Swapping => "swapping",
        Phase::Asking => "asking",
        Phase::ClearingAway => "clearing",
    }
}

#[cfg(test)]
mod tests {
    use chat4all_domain::Partition;
    use chat4all_projector::rebuild::Level;

    use super::*;

    #[test]
    fn nothing_is_counted_where_there_is_nothing_to_count() {
        let progress = Progress {
            phase: Phase::Folding,
            ..Progress::default()
        };
        let said = as_text(&progress, &pace(&progress, Duration::ZERO));
        assert_eq!(said, "folding      from the first event on");
    }

    #[test]
    fn who_waits_reads_how_far_it_is_how_fast_and_how_long_still() {
        let level = |number, at, to| {
            let partition = Partition::new(number).expect("there are that many");
            (partition, Level { at, to })
        };
        let progress = Progress {
            phase: Phase::Folding,
            partitions: [level(0, 300, 900), level(1, 200, 600)].into(),
        };
        let pace = pace(&progress, Duration::from_secs(10));
        assert_eq!(
            as_text(&progress, &pace),
            "folding      500 of 1500 events (33 %), 50 events/s, 20 s left"
        );
        assert_eq!(as_list(&progress), "  00: 300/900  01: 200/600");
        assert_eq!(
            as_json(&progress, &pace),
            json!({
                "phase": "folding",
                "events": 500,
                "of": 1500,
                "events_per_second": 50,
                "seconds_left": 20.0,
                "waiting_for": null,
                "partitions": [
                    { "partition": "00", "at": 300, "to": 900 },
                    { "partition": "01", "at": 200, "to": 600 },
                ],
            })
        );
    }

    #[test]
    fn nobody_is_told_how_long_still_once_everything_is_folded() {
        let progress = Progress {
            phase: Phase::Comparing,
            ..Progress::default()
        };
        let said = as_json(&progress, &pace(&progress, Duration::from_secs(10)));
        assert_eq!(said["seconds_left"], Value::Null);
    }
}
