//! The README's five minutes, run as they stand there: a claim in it is a command that shows it.

use std::process::Command;

use chat4all_cli::embedded::{chat4all_program, temp_dir};

use crate::support::up::Up;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readmes_tour_works_as_pasted() {
    let dir = temp_dir().unwrap();
    let up = Up::start(
        &dir.path().join(".chat4all"),
        Up::command(&dir.path().join(".chat4all")),
    );
    std::fs::create_dir_all(dir.path().join("target/debug")).unwrap();
    let program = dir.path().join("target/debug/chat4all");
    std::os::unix::fs::symlink(chat4all_program().unwrap(), program).unwrap();

    let blocks = blocks(README);
    assert!(blocks.len() >= 4, "the tour has {} blocks", blocks.len());
    let script = blocks.concat();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(dir.path())
        .env_remove("CHAT4ALL_SEED")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
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
        assert!(
            said.to_lowercase().contains(&expected.to_lowercase()),
            "no {expected} in:\n{said}"
        );
    }
    drop(up);
}

/// The code blocks that are marked as part of the tour.
fn blocks(markdown: &str) -> Vec<String> {
    let after_each = markdown.split("```sh tour\n").skip(1);
    after_each
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}
