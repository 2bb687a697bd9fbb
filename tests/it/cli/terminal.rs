//! Where commands are typed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::chat4all_program;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A shell with these `CHAT4ALL_` variables and no others.
#[derive(Clone)]
pub struct Terminal(BTreeMap<String, String>);

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Said {
    /// Each line of its output.
    pub fn lines(&self) -> Vec<Value> {
        let each = self.output.lines();
        each.map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }
    /// All of its output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Terminal {
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }

    /// The same, with other variables.
    pub fn with(&self, changes: &[(&str, &str)]) -> Self {
        let mut variables = self.0.clone();
        for (name, value) in changes {
            variables.insert((*name).to_owned(), (*value).to_owned());
        }
        Self(variables)
    }

    pub fn variable(&self, name: &str) -> &str {
        &self.0[name]
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(chat4all_program().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHAT4ALL_") {
                command.env_remove(name);
            }
        }
        command.args(args).envs(&self.0).stdin(Stdio::null());
        command
    }

    pub fn types(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().unwrap();
        Said {
            code: output.status.code(),
            output: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A command that must do what it is for.
    #[track_caller]
    pub fn done(&self, args: &[&str]) -> Said {
        let said = self.types(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
        assert_eq!(said.errors, "", "{args:?}");
        said
    }

    /// A command that must end with this exit code; gives its complaint, in which no cause stands twice.
    #[track_caller]
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let said = self.types(args);
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        let repeated = said.errors.matches("onnection refused").count();
        assert!(repeated <= 1, "{args:?} repeats itself: {}", said.errors);
        said.errors
    }
}

/// Waits until `look` finds something, showing what it saw last if it never does.
#[track_caller]
pub fn wait_for<T, S: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "{what}: {seen:?}"),
        }
    }
}
