//! `chat4all bench` measures what it says it measures. The numbers of these runs mean nothing: a debug build, for a second.

use std::fs;
use std::process::{Command, Output, Stdio};

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use serde_json::Value;

use crate::support::up::Up;

/// A `chat4all bench` that runs to its end, with nothing of ours in its environment.
fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(chat4all_program().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT4ALL_") && name != "CHAT4ALL_TOOLS" {
            command.env_remove(name);
        }
    }
    command.arg("bench").args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

/// What came out of the quickest look at a measurement.
#[track_caller]
fn look_at(arguments: &[&str]) -> Value {
    let mut all = vec!["--quick", "--seconds", "1", "--json"];
    all.extend(arguments);
    let output = bench(&all);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sync = report["sync"].as_object().unwrap();
    assert!(!sync.is_empty(), "nobody was asked how the broker syncs");
    for (whom, sync) in sync {
        let sync = sync.as_str().unwrap();
        assert!(sync.contains("sync_always true"), "{whom}: {sync}");
    }
    assert_eq!(report["failed"], serde_json::json!([]), "{complained}");
    report
}

/// Each row is there, with numbers, and with a verdict if something is aimed at.
#[track_caller]
fn has(report: &Value, wanted: &[(&str, bool)]) {
    let rows = report["rows"].as_array().unwrap();
    for (what, aimed) in wanted {
        let named = |row: &&Value| row["what"].as_str().unwrap().contains(what);
        let row = rows.iter().find(named);
        let row = row.unwrap_or_else(|| panic!("no row `{what}` in {report:#}"));
        for number in ["least", "median", "most"] {
            let value = row[number].as_f64();
            let value = value.unwrap_or_else(|| panic!("`{what}` has no {number}: {row:#}"));
            assert!(value.is_finite(), "{row:#}");
        }
        assert_eq!(row["aim"].is_string(), *aimed, "{row:#}");
        assert_eq!(row["met"].is_boolean(), *aimed, "{row:#}");
    }
}

#[test]
fn starting_and_idling() {
    let report = look_at(&["--only", "idle"]);
    let wanted = [
        ("on nothing, until the first message is READ", true),
        ("on its data, until the first message is READ", true),
        ("proportional set size", true),
        ("resident set size", true),
    ];
    has(&report, &wanted);
}

#[test]
fn accepting_and_seeing_and_taking_webhooks_in() {
    let report = look_at(&["--only", "accept,see,webhooks"]);
    let wanted = [
        ("(a) bare publishes, 64 in flight", false),
        ("(b1) messages accepted, 64 in flight", false),
        ("rate of (b1) / (a), 64 in flight", true),
        ("rate of bare publishes by HTTP / (a), 64 in flight", false),
        ("p50 of (b1) / (a), 1 in flight", true),
        ("p99 of (b1) − (a) at half load", true),
        (
            "(b1) projector's lag when the load ends, 64 in flight",
            false,
        ),
        ("(c) request → shown by GraphQL, p99", true),
        ("(c) request → at a subscriber's WebSocket, p99", true),
        ("(c) request → provider's call, p50", true),
        ("(c) request → provider's call, p99", true),
        ("(g) webhooks accepted, 64 in flight", false),
    ];
    has(&report, &wanted);
    let asked: Vec<_> = report["sync"].as_object().unwrap().keys().collect();
    assert_eq!(asked, ["bare publishes", "the stack"]);
}

#[test]
fn delivering_and_rebuilding() {
    let report = look_at(&["--only", "deliver,rebuild", "--rebuild-events", "2000"]);
    let wanted = [
        ("(b2) messages accepted, closed loop", false),
        ("(b2) messages handed to the provider, closed loop", true),
        ("(b2) messages DELIVERED in the same window", true),
        ("(b2) fsyncs (synced appends) per message", false),
        ("(b2) projector's lag, the most of once a second", false),
        (
            "(b2) one account alone, messages handed to the provider",
            false,
        ),
        ("(d) rebuild / COPY", true),
    ];
    has(&report, &wanted);
}

#[test]
fn pages_and_subscribers() {
    let report = look_at(&["--only", "pages,subscribers"]);
    let wanted = [
        ("(e) 50 messages of 1000, p99 of REST − bare SQL", true),
        ("(e) 50 messages of 100000, p99 of REST − bare SQL", true),
        (
            "(e) 50 messages of 100000, REST, the first page after a restart",
            false,
        ),
        (
            "(e) 50 messages of 100000, bare SQL, the first page after a restart",
            false,
        ),
        ("(e) REST, warm, p99, 100000 messages / 1000", true),
        ("memory for each of 500 idle WebSocket subscribers", false),
        ("the last of 100 subscribers has the message", false),
    ];
    has(&report, &wanted);
}

#[test]
fn bridge_workers() {
    let report = look_at(&["--only", "workers"]);
    let wanted = [
        ("bridge workers: 1, 16 calls each", false),
        ("bridge workers: 4, 16 calls each", false),
        ("(f) bridge workers: 8 / 1", true),
    ];
    has(&report, &wanted);
}

#[test]
fn a_running_system_is_measured_as_far_as_it_can_be_and_one_failure_stops_nothing() {
    let dir = temp_dir().unwrap();
    let up = Up::start(dir.path(), Up::command(dir.path()));
    let env = dir.path().join("env");
    let env = env.to_str().unwrap();
    let report = look_at(&["--env", env]);
    let wanted = [
        ("rate of (b1) / (a), 64 in flight", true),
        ("(c) request → at a subscriber's WebSocket, p99", true),
        ("(g) webhooks accepted, 1 in flight", false),
        ("the last of 100 subscribers has the message", false),
    ];
    has(&report, &wanted);
    let left_out = report["left_out"].as_array().unwrap();
    let names: Vec<_> = left_out
        .iter()
        .map(|one| one["measurement"].as_str().unwrap())
        .collect();
    let own = ["idle", "deliver", "rebuild", "pages", "workers"];
    assert_eq!(names[..own.len()], own, "{left_out:#?}");
    assert_eq!(names[own.len()..], ["see: request → provider's call"]);

    // By name it is refused at once.
    let refused = bench(&["--env", env, "--only", "pages"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("pages cannot be measured on a running system: it loads rows"),
        "{said}"
    );

    // One that fails is told, and what comes after it is measured.
    let nobody = ["--query-url", "http://127.0.0.1:1"];
    let only = ["--env", env, "--only", "see,webhooks"];
    let short = ["--quick", "--seconds", "1", "--json"];
    let failed = bench(&[&only[..], &nobody, &short].concat());
    assert_eq!(failed.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(report["failed"][0]["measurement"], "see", "{report:#}");
    has(&report, &[("(g) webhooks accepted, 64 in flight", false)]);

    // What is no system.
    let empty = dir.path().join("empty");
    fs::write(&empty, "export CHAT4ALL_URL='http://127.0.0.1:1'\n").unwrap();
    let refused = bench(&["--env", empty.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("lacks CHAT4ALL_QUERY_URL, CHAT4ALL_TOKEN"),
        "{said}"
    );
    drop(up);
}
