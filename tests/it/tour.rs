//! The README's five minutes and the page on access, run as they stand there: a claim in them is a command that shows it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitStatus};

use chat4all_cli::embedded::{chat4all_program, temp_dir};
use chat4all_service::auth::Scope;

use crate::support::up::Up;

const README: &str = include_str!("../../README.md");
const ACCESS: &str = include_str!("../../docs/access.md");

#[test]
fn the_readmes_tour_works_as_pasted() {
    let dir = temp_dir().unwrap();
    let (status, said) = pasted(dir.path(), README, 4);
    assert!(status.success(), "{said}");
    for expected in [
        "idempotent-replay: true",
        "Your parcel is here",
        "It waits at the desk",
        "\"title\":\"Order 4711\"",
        "ConversationStarted",
        "MessageAccepted",
        "read models",
        "/conversation_id",
        "the text is blank",
        "On my way",
        "event: update",
        "\"kind\":\"FAILED_DELIVERY\"",
        "RECIPIENT_NOT_REACHABLE",
        "failed-delivery:",
        "\"deliveries\":[0]",
        "copied",
        "swapped",
    ] {
        has(&said, expected);
    }
}

#[test]
fn who_may_see_what_is_as_the_page_shows_it() {
    let dir = temp_dir().unwrap();
    let (status, said) = pasted(dir.path(), ACCESS, 1);
    assert!(status.success(), "{said}");
    // Of the reading alone: what was posted is not repeated by its answers.
    let read: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("\"text\":"))
        .collect();
    assert_eq!(read, ["\"text\":\"with Ben\""], "{said}");
    has(&said, "\"status\":404");
    has(&said, "the scope `conversations:read`");
    // Each scope, and no other.
    let rows = ACCESS.lines().filter_map(|line| line.strip_prefix("| `"));
    let first = rows.filter_map(|row| row.split('`').next());
    let named: BTreeSet<_> = first.filter(|name| name.contains(':')).collect();
    let there = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    assert_eq!(named, there);
}

/// Runs the blocks of a page in a shell beside a system of their own; at least so many there must be. What they print, both ways.
fn pasted(dir: &Path, page: &str, least: usize) -> (ExitStatus, String) {
    let home = dir.join(".chat4all");
    let _up = Up::start(&home, Up::command(&home));
    std::fs::create_dir_all(dir.join("target/debug")).unwrap();
    let program = dir.join("target/debug/chat4all");
    std::os::unix::fs::symlink(chat4all_program().unwrap(), program).unwrap();

    let blocks = blocks(page);
    assert!(blocks.len() >= least, "there are {} blocks", blocks.len());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &blocks.concat()])
        .current_dir(dir)
        .env_remove("CHAT4ALL_SEED")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    (output.status, format!("{said}\n{complained}"))
}

fn has(said: &str, expected: &str) {
    let found = said.to_lowercase().contains(&expected.to_lowercase());
    assert!(found, "no {expected} in:\n{said}");
}

/// The code blocks that are marked as part of the tour.
fn blocks(markdown: &str) -> Vec<String> {
    let after_each = markdown.split("```sh tour\n").skip(1);
    after_each
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}
