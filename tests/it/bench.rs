//! `chat4all bench` measures what it says it measures. The numbers of this run mean nothing: a debug build, for a second.

use std::process::{Command, Stdio};

use chat4all_cli::embedded::chat4all_program;
use serde_json::Value;

/// One row that each measurement must give.
const ROWS: [&str; 9] = [
    "until the first message is READ",
    "rate of (b1) / (a), 64 in flight",
    "p99 of (b1) − (a) at half load",
    "(c) request → provider's call, p99",
    "(c) request → shown by GraphQL, p99",
    "(b2) messages handed to the provider, closed loop",
    "(b2) synced appends per message",
    "(d) rebuild / COPY",
    "(g) webhooks",
];

#[test]
fn every_measurement_runs_to_its_end_and_says_what_it_measured() {
    let mut command = Command::new(chat4all_program().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT4ALL_") && name != "CHAT4ALL_TOOLS" {
            command.env_remove(name);
        }
    }
    let arguments = ["bench", "--seconds", "1", "--rounds", "1", "--json"];
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sync = report["sync"].as_str().unwrap();
    assert!(sync.contains("sync_always true"), "{sync}");
    let rows = report["rows"].as_array().unwrap();
    for wanted in ROWS {
        let named = |row: &&Value| row["what"].as_str().unwrap().contains(wanted);
        let row = rows.iter().find(named);
        let row = row.unwrap_or_else(|| panic!("no row `{wanted}` in {report:#}"));
        let median = row["median"].as_f64();
        assert!(median.is_some(), "`{wanted}` has no number: {row:#}");
    }
}
