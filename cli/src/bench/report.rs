//! What came out, as a table for people or JSON for programs, with the machine it came out on.

use std::fmt::Write as _;

use serde::Serialize;

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
    aim: Option<&'static str>,
}

/// Everything measured, and on what.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    build: &'static str,
    machine: Machine,
    /// What nats-server itself says about its syncing.
    sync: Option<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processors: usize,
    model: String,
    memory_gib: f64,
    kernel: String,
    /// Load average of the last minute, before anything was started.
    load_before: f64,
}

impl Report {
    pub fn begin() -> Self {
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
            sync: None,
            rows: Vec::new(),
        }
    }

    pub fn synced(&mut self, sync: String) {
        self.sync = Some(sync);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a quantity with its value in each round.
    pub fn add(&mut self, what: impl Into<String>, unit: &'static str, rounds: &[f64]) {
        self.add_with_aim(what, unit, rounds, None);
    }

    /// The same, with what is aimed at.
    pub fn aim(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        rounds: &[f64],
        aim: &'static str,
    ) {
        self.add_with_aim(what, unit, rounds, Some(aim));
    }

    fn add_with_aim(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        rounds: &[f64],
        aim: Option<&'static str>,
    ) {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let row = Row {
            what: what.into(),
            unit,
            rounds: rounds.to_vec(),
            median: at(sorted.len() / 2),
            least: at(0),
            most: at(sorted.len().saturating_sub(1)),
            aim,
        };
        super::progress(format_args!(
            "  {}: {} {unit}",
            row.what,
            number(row.median)
        ));
        self.rows.push(row);
    }

    /// # Errors
    /// Standard output is closed.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            line(serde_json::to_string_pretty(self)?)?;
        } else {
            line(self.table())?;
        }
        Ok(())
    }

    fn table(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} build, {} x {}, {:.0} GiB, Linux {}, load before {:.2}; nats-server: {}\n\n",
            self.build,
            machine.processors,
            machine.model,
            machine.memory_gib,
            machine.kernel,
            machine.load_before,
            self.sync.as_deref().unwrap_or("not asked"),
        );
        text.push_str("| what | median | least – most | unit | aim |\n|---|---:|---|---|---|\n");
        for row in &self.rows {
            let _ = writeln!(
                text,
                "| {} | {} | {} – {} | {} | {} |",
                row.what,
                number(row.median),
                number(row.least),
                number(row.most),
                row.unit,
                row.aim.unwrap_or_default()
            );
        }
        text.trim_end().to_owned()
    }
}

impl Machine {
    fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split(':').nth(1));
            value.unwrap_or("unknown").trim().to_owned()
        };
        let kib = field(&read("/proc/meminfo"), "MemTotal");
        let kib = kib
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<f64>().ok());
        let load = read("/proc/loadavg");
        Self {
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            model: field(&read("/proc/cpuinfo"), "model name"),
            memory_gib: kib.unwrap_or(f64::NAN) / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(f64::NAN),
        }
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
    fn the_table_has_median_and_spread() {
        let mut report = Report::begin();
        report.aim("accepted / published", "", &[0.9, 0.7, 0.8], "≥ 0.8");
        report.add("accepted", "messages/s", &[8_000.4]);
        let table = report.table();
        assert!(
            table.contains("| accepted / published | 0.80 | 0.70 – 0.90 |  | ≥ 0.8 |"),
            "{table}"
        );
        assert!(
            table.contains("| accepted | 8000 | 8000 – 8000 | messages/s |  |"),
            "{table}"
        );
    }
}
