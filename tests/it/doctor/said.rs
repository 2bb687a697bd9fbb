//! `chat4all doctor` as an operator runs it, and what it said.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::chat4all_program;
use serde_json::Value;

/// Between two looks at something that comes by itself.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What is set, by name.
pub type Variables = BTreeMap<String, String>;

/// As `chat4all doctor` has it.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub answer: Value,
}

impl Said {
    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.answer["findings"].as_array().unwrap().iter()
    }

    /// The finding of `area` that says `words`; it must have a remedy with `mend` in it.
    #[track_caller]
    pub fn has(&self, weight: &str, area: &str, words: &str, mend: &str) {
        let wanted = |one: &&Value| {
            one["weight"] == weight
                && one["area"] == area
                && one["what"].as_str().unwrap().contains(words)
        };
        let found = self.findings().find(wanted);
        let found =
            found.unwrap_or_else(|| panic!("no {weight} `{words}` of {area} in {:#}", self.answer));
        assert!(!found["right"].as_str().unwrap().is_empty());
        assert!(found["mend"].as_str().unwrap().contains(mend), "{found:#}");
        assert_eq!(
            self.code,
            i32::from(self.findings().any(|one| one["weight"] == "wrong"))
        );
    }

    #[track_caller]
    pub fn is_well(&self) {
        let wrong: Vec<_> = self
            .findings()
            .filter(|one| one["weight"] == "wrong")
            .collect();
        assert!(
            wrong.is_empty() && self.code == 0 && self.answer["well"] == true,
            "{:#}",
            self.answer
        );
    }

    /// The sentences that say that something in `area` is wrong.
    pub fn wrong(&self, area: &str) -> Vec<&str> {
        let wrong = |one: &&Value| one["weight"] == "wrong" && one["area"] == area;
        let found = self.findings().filter(wrong);
        found.map(|one| one["what"].as_str().unwrap()).collect()
    }

    /// Whether it could look at `area`.
    pub fn looked_at(&self, area: &str) -> bool {
        let areas = self.answer["looked_at"].as_array().unwrap();
        areas.iter().any(|one| one.as_str() == Some(area))
    }
}

/// The command, with nothing of the surrounding shell.
pub fn command(variables: &Variables, arguments: &[&str]) -> Command {
    let mut command = chat4all(variables);
    command.arg("doctor").args(arguments);
    command
}

/// The program, with nothing of the surrounding shell.
pub fn chat4all(variables: &Variables) -> Command {
    let mut command = Command::new(chat4all_program().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT4ALL_") {
            command.env_remove(name);
        }
    }
    command.envs(variables).stdin(Stdio::null());
    command
}

pub fn doctor(variables: &Variables, arguments: &[&str]) -> Said {
    let output: Output = command(variables, arguments)
        .arg("--json")
        .output()
        .unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    let answer = serde_json::from_slice(&output.stdout);
    Said {
        code: output.status.code().unwrap(),
        answer: answer.unwrap_or_else(|error| panic!("{error}: {complained}")),
    }
}

/// Looks again and again, until what it says is `wanted`.
#[track_caller]
pub fn doctor_until(
    variables: &Variables,
    arguments: &[&str],
    within: Duration,
    wanted: impl Fn(&Said) -> bool,
) -> Said {
    let begun = Instant::now();
    loop {
        let said = doctor(variables, arguments);
        if wanted(&said) {
            println!("after {:?}: {}", begun.elapsed(), said.answer);
            return said;
        }
        let late = begun.elapsed() > within;
        assert!(!late, "not within {within:?}, but {:#}", said.answer);
        std::thread::sleep(AGAIN_AFTER);
    }
}

pub fn with(variables: &Variables, name: &str, value: &str) -> Variables {
    let mut variables = variables.clone();
    variables.insert(name.to_owned(), value.to_owned());
    variables
}

/// A configuration that is complete, for the broker there. Where it says that Postgres is, nobody answers.
pub fn on(url: String, monitor_url: String) -> Variables {
    let variables = [
        ("CHAT4ALL_NATS__URL", url),
        ("CHAT4ALL_NATS__MONITOR_URL", monitor_url),
        (
            "CHAT4ALL_POSTGRES__URL",
            "postgres://x@127.0.0.1:1/x".into(),
        ),
        ("CHAT4ALL_AUTH__HS256_SECRET", "x".repeat(64)),
        ("CHAT4ALL_IDS__SECRET", "0".repeat(64)),
    ];
    BTreeMap::from(variables.map(|(name, value)| (name.to_owned(), value)))
}
