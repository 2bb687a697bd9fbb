//! What came out, as a table for people or JSON for programs, with the machine it came out on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use chat4all_service::Chain;
use serde::Serialize;

use super::aim::Aim;
use super::machine::Machine;
use crate::tool::line;

/// One measured quantity.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    /// One value a round, in order.
    rounds: Vec<f64>,
    median: f64,
    least: f64,
    most: f64,
    /// What the project aims at, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<String>,
    /// Whether the median reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// A measurement that gave no numbers, or not all of them.
#[derive(Debug, Serialize)]
struct Without {
    measurement: String,
    why: String,
}

/// Everything measured, and on what.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    build: &'static str,
    machine: Machine,
    /// What each nats-server itself says about its syncing.
    sync: BTreeMap<&'static str, String>,
    /// How long each run was measured, in seconds; how often.
    seconds: u64,
    rounds: u32,
    /// With a tenth of the rows, events and connections.
    quick: bool,
    rows: Vec<Row>,
    failed: Vec<Without>,
    left_out: Vec<Without>,
    took_s: u64,
    #[serde(skip)]
    begun: Instant,
}

impl Report {
    pub fn begin((seconds, rounds, quick): (u64, u32, bool)) -> Self {
        let build = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        if build == "debug" {
            super::progress(
                "This is a debug build: its numbers say nothing. Use `cargo build --release`.",
            );
        }
        let machine = Machine::here();
        if machine.load_before > 0.5 {
            super::progress(format_args!(
                "The machine is not idle (load {:.2}): the numbers will be worse than they could be.",
                machine.load_before
            ));
        }
        Self {
            build,
            machine,
            sync: BTreeMap::new(),
            seconds,
            rounds,
            quick,
            rows: Vec::new(),
            failed: Vec::new(),
            left_out: Vec::new(),
            took_s: 0,
            begun: Instant::now(),
        }
    }

    /// What the nats-server of `whom` says about its syncing.
    pub fn synced(&mut self, whom: &'static str, sync: String) {
        self.sync.insert(whom, sync);
    }

    /// A measurement came to no end; the others go on.
    pub fn failed(&mut self, measurement: &str, error: &anyhow::Error) {
        let why = Chain(error.as_ref()).to_string();
        super::progress(format_args!("{measurement}: FAILED: {why}"));
        let measurement = measurement.to_owned();
        self.failed.push(Without { measurement, why });
    }

    /// A measurement, or a part of one, was not made.
    pub fn left_out(&mut self, measurement: &str, why: &str) {
        super::progress(format_args!("{measurement}: left out: {why}"));
        let (measurement, why) = (measurement.to_owned(), why.to_owned());
        self.left_out.push(Without { measurement, why });
    }

    /// Whether everything that was begun came to its end.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }

    /// Adds a quantity with its value in each round.
    pub fn add(&mut self, what: impl Into<String>, unit: &'static str, rounds: &[f64]) {
        self.add_with_aim(what.into(), unit, rounds, None);
    }

    /// The same, with what is aimed at.
    pub fn aim(&mut self, what: impl Into<String>, unit: &'static str, rounds: &[f64], aim: Aim) {
        self.add_with_aim(what.into(), unit, rounds, Some(aim));
    }

    fn add_with_aim(&mut self, what: String, unit: &'static str, rounds: &[f64], aim: Option<Aim>) {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = |below: usize, above: usize| f64::midpoint(at(below), at(above));
        let row = Row {
            what,
            unit,
            rounds: rounds.to_vec(),
            median: middle(sorted.len().saturating_sub(1) / 2, sorted.len() / 2),
            least: at(0),
            most: at(sorted.len().saturating_sub(1)),
            aim: aim.map(|aim| aim.to_string()),
            met: None,
        };
        let met = aim.map(|aim| aim.is_met_by(row.median));
        let row = Row { met, ..row };
        super::progress(format_args!(
            "  {}: {} {unit} {}",
            row.what,
            number(row.median),
            verdict(&row)
        ));
        self.rows.push(row);
    }

    /// # Errors
    /// Standard output is closed.
    pub fn print(&mut self, json: bool) -> anyhow::Result<()> {
        self.took_s = self.begun.elapsed().as_secs();
        if json {
            line(serde_json::to_string_pretty(self)?)?;
        } else {
            line(self.table())?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        let machine = &self.machine;
        let synced = self.sync.iter();
        let synced: Vec<_> = synced.map(|(whom, how)| format!("{whom}: {how}")).collect();
        let mut text = format!(
            "{} build, {} x {}, {:.0} GiB, Linux {}, load before {:.2}; nats-server of {}\n{} rounds of {} s each{}, {} min in all\n\n",
            self.build,
            machine.processors,
            machine.model,
            machine.memory_gib,
            machine.kernel,
            machine.load_before,
            synced.join("; "),
            self.rounds,
            self.seconds,
            if self.quick {
                " (quick: a tenth of the rows, events and connections)"
            } else {
                ""
            },
            self.took_s.div_ceil(60),
        );
        text.push_str(
            "| what | median | least – most | unit | aim | |\n|---|---:|---|---|---|---|\n",
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} – {} | {} | {} | {} |",
                row.what,
                number(row.median),
                number(row.least),
                number(row.most),
                row.unit,
                row.aim.as_deref().unwrap_or_default(),
                verdict(row)
            );
        }
        for (word, all) in [("FAILED", &self.failed), ("left out", &self.left_out)] {
            for one in all {
                let _ = writeln!(text, "\n{word}: {}: {}", one.measurement, one.why);
            }
        }
        text.trim_end().to_owned()
    }
}

fn verdict(row: &Row) -> &'static str {
    match row.met {
        None => "",
        Some(true) => "met",
        Some(false) => "missed",
    }
}

/// With as many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_median_and_spread_and_says_what_misses_its_aim() {
        let mut report = Report::begin((20, 3, false));
        let aim = Aim::AtLeast(0.8);
        report.aim("accepted / published", "", &[0.9, 0.7, 0.8], aim);
        report.aim("again", "×", &[0.7, 0.8], aim);
        report.add("accepted", "messages/s", &[8_000.4]);
        report.failed("see", &anyhow::anyhow!("nobody is there"));
        report.left_out("idle", "it starts its own stack");
        let table = report.table();
        for line in [
            "| accepted / published | 0.80 | 0.70 – 0.90 |  | ≥ 0.8 | met |",
            "| again | 0.75 | 0.70 – 0.80 | × | ≥ 0.8 | missed |",
            "| accepted | 8000 | 8000 – 8000 | messages/s |  |  |",
            "FAILED: see: nobody is there",
            "left out: idle: it starts its own stack",
        ] {
            assert!(table.contains(line), "{line}\n{table}");
        }
        assert!(!report.is_whole());
    }
}
