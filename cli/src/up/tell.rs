//! What `up` says: lines for people, or one JSON object per line for programs.
//!
//! Every object has `step`; times are milliseconds since the first message was posted. Tokens, secrets and passwords are in
//! neither form: they are in the file that `running` names.

use std::fmt::Display;
use std::io::Write as _;

use serde_json::Value;

/// How it is said.
#[derive(Clone, Copy, Debug)]
pub struct Tell {
    /// For programs.
    pub json: bool,
}

impl Tell {
    /// Something was done: `words` for people, `more` (an object) for programs. A closed terminal or pipe is no reason to stop.
    pub fn step(self, step: &str, more: Value, words: impl Display) {
        let mut out = std::io::stdout().lock();
        let said = if self.json {
            writeln!(out, "{}", object(step, more))
        } else {
            writeln!(out, "{words}")
        };
        let _ = said.and_then(|()| out.flush());
    }

    /// Something is wrong; for people so that it is seen.
    pub fn trouble(self, step: &str, more: Value, words: impl Display) {
        if self.json {
            self.step(step, more, words);
        } else {
            let _ = writeln!(std::io::stderr().lock(), "!!! {words}");
        }
    }
}

fn object(step: &str, more: Value) -> Value {
    let mut all = serde_json::Map::new();
    all.insert("step".to_owned(), step.into());
    if let Value::Object(more) = more {
        all.extend(more);
    }
    Value::Object(all)
}
