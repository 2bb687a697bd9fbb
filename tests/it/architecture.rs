//! Which of our crates may know which: the table of ARCHITECTURE.md, held against `cargo metadata`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// A crate, and those of ours that it may depend on. `cli` and `tests` put everything together and may know all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("service", &[]),
    ("simulator", &[]),
    ("nats", &["domain"]),
    ("postgres", &["domain"]),
    ("command-api", &["domain", "nats", "service"]),
    ("projector", &["domain", "nats", "postgres", "service"]),
    ("query-api", &["domain", "nats", "postgres", "service"]),
    ("channel-bridges", &["domain", "nats", "service"]),
];
const MAY_KNOW_ALL: &[&str] = &["cli", "tests"];
/// What decides must not be able to wait, call or store.
const NOT_IN_DOMAIN: &[&str] = &["tokio", "reqwest", "sqlx", "async-nats"];

/// Direct normal dependencies by crate, ours without their prefix.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_arrow_between_our_crates_is_in_the_table() {
    assert_eq!(extra_arrows(&ours(&dependencies())), Vec::<String>::new());
}

#[test]
fn an_arrow_that_is_not_in_the_table_is_found() {
    for (from, to, arrow) in [
        ("channel-bridges", "postgres", "channel-bridges -> postgres"),
        (
            "simulator",
            "channel-bridges",
            "simulator -> channel-bridges",
        ),
        ("domain", "cli", "domain -> cli"),
        ("jobs", "domain", "jobs is not in the table"),
    ] {
        let mut dependencies = ours(&dependencies());
        dependencies
            .entry(from.into())
            .or_default()
            .insert(to.into());
        assert_eq!(extra_arrows(&dependencies), [arrow]);
    }
}

#[test]
fn the_table_speaks_of_crates_that_exist() {
    let existing: BTreeSet<String> = dependencies().into_keys().collect();
    let listed = ALLOWED
        .iter()
        .map(|(name, _)| *name)
        .chain(MAY_KNOW_ALL.iter().copied());
    assert_eq!(existing, listed.map(str::to_owned).collect());
}

#[test]
fn the_domain_cannot_do_io() {
    let domain = &dependencies()["domain"];
    let found: Vec<_> = NOT_IN_DOMAIN
        .iter()
        .filter(|name| domain.contains(**name))
        .collect();
    assert!(found.is_empty(), "domain depends on {found:?}");
    assert!(
        domain.contains("cqrs-es"),
        "this looks at the wrong thing: {domain:?}"
    );
}

#[test]
fn the_simulator_and_the_bridges_share_nothing_of_ours() {
    let dependencies = ours(&dependencies());
    assert!(!dependencies["simulator"].contains("channel-bridges"));
    assert!(!dependencies["channel-bridges"].contains("simulator"));
    assert!(
        dependencies["simulator"].is_empty(),
        "it would share types through {dependencies:?}"
    );
}

/// The arrows that the table lacks, as `from -> to`.
fn extra_arrows(dependencies: &Dependencies) -> Vec<String> {
    let mut extra = Vec::new();
    for (from, targets) in dependencies {
        if MAY_KNOW_ALL.contains(&from.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == from) else {
            extra.push(format!("{from} is not in the table"));
            continue;
        };
        let not_allowed = targets.iter().filter(|to| !allowed.contains(&to.as_str()));
        extra.extend(not_allowed.map(|to| format!("{from} -> {to}")));
    }
    extra
}

/// Only arrows between our own crates.
fn ours(all: &Dependencies) -> Dependencies {
    let targets = |to: &BTreeSet<String>| {
        to.iter()
            .filter(|to| all.contains_key(*to))
            .cloned()
            .collect()
    };
    all.iter()
        .map(|(from, to)| (from.clone(), targets(to)))
        .collect()
}

fn dependencies() -> Dependencies {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| (short(&package["name"]), normal_dependencies(package)))
        .collect()
}

fn normal_dependencies(package: &Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().unwrap();
    // `kind` is null for a normal one, else "dev" or "build".
    all.iter()
        .filter(|one| one["kind"].is_null())
        .map(|one| short(&one["name"]))
        .collect()
}

fn short(name: &Value) -> String {
    let name = name.as_str().unwrap();
    name.strip_prefix("chat4all-").unwrap_or(name).to_owned()
}
