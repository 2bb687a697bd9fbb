//! The `chat4all` commands of the pages: the command line takes each with its flags and values. Those of docs/operations.md are
//! typed in [`typed`](super::typed), too.

use chat4all_cli::args::Cli;
use clap::Parser as _;
use clap::error::ErrorKind;

use super::{code, words};
use crate::place::read_page;

/// How each begins.
const PROGRAM: &str = "chat4all ";
/// Stands where the pages leave an id out.
const ID: &str = "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";

#[test]
fn every_chat4all_command_of_the_pages_is_one() {
    let pages = ["docs/operations.md", "docs/deploy.md"].map(read_page);
    let all: Vec<_> = pages.iter().flat_map(|page| commands(page)).collect();
    assert!(all.len() >= 50, "only {}: {all:#?}", all.len());
    for command in &all {
        if let Err(why) = taken(command) {
            panic!("{}: {why}", command.join(" "));
        }
    }
    let no_flag = ["rebuild", "--accept-difference"].map(str::to_owned);
    assert!(taken(&no_flag).is_err());
    let no_value = ["log", "--type", "MessageAcepted"].map(str::to_owned);
    assert!(taken(&no_value).is_err());
}

/// Whether the command line understands it. Behind all of it it is asked for its help, so that what a sentence leaves out is not
/// missed.
fn taken(command: &[String]) -> Result<(), String> {
    let words = command.iter().map(String::as_str);
    let words = ["chat4all"].into_iter().chain(words).chain(["--help"]);
    match Cli::try_parse_from(words) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("it does not give its help".to_owned()),
    }
}

/// With an id wherever the page leaves one out.
fn commands(page: &str) -> Vec<Vec<String>> {
    commands_of(page, filled)
}

/// Word by word, each as `filled` makes it: at the beginning, behind variables, or as what another command takes.
pub fn commands_of(page: &str, filled: impl Fn(&str) -> String) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in code(page) {
        let line = line.split(" #").next().unwrap_or_default();
        let line = line.replace("$(date +%F)", "today");
        for (at, _) in line.match_indices(PROGRAM) {
            let before = &line[..at];
            let mut variables = before.split_whitespace();
            if before.ends_with("$(") || variables.all(|word| word.contains('=')) {
                let rest = line[at + PROGRAM.len()..].split(')').next();
                let words = words(rest.unwrap_or_default());
                found.push(words.iter().map(|word| filled(word)).collect());
            }
        }
    }
    found
}

fn filled(word: &str) -> String {
    match word {
        "…" | "<conversation>" | "<message>" | "<job>" => ID.to_owned(),
        "<account>" => "whatsapp-main".to_owned(),
        "failed-delivery:…" => format!("failed-delivery:{ID}:{ID}:0"),
        _ => word.to_owned(),
    }
}

#[test]
fn commands_are_found_behind_variables_and_inside_others() {
    let page = "`chat4all` has:\n```sh\nA=b chat4all all   # chat4all this\ncurl $(chat4all token --sub me) x\n./chat4all up\n```\n\
                and `chat4all dlq\ncancel <job>`.";
    let wanted = [
        vec!["all"],
        vec!["token", "--sub", "me"],
        vec!["dlq", "cancel", ID],
    ];
    assert_eq!(commands(page), wanted);
}
