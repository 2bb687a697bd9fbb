//! What holds now and who said so: the answer of `chat4all config`.

use std::fmt;

use serde_json::{Map, Value, json};

use super::reader::Entry;

/// The effective configuration, secrets hidden. `Display` is for people, [`Effective::to_json`] for machines.
pub struct Effective<'a> {
    entries: &'a [Entry],
}

impl<'a> Effective<'a> {
    pub(crate) fn new(entries: &'a [Entry]) -> Self {
        Self { entries }
    }

    /// `{"nats.url": {"value": …, "origin": "default", "variable": "CHAT4ALL_NATS__URL"}, …}`.
    pub fn to_json(&self) -> Value {
        let entry = |entry: &Entry| {
            let value = json!({
                "value": entry.value,
                "origin": entry.origin.to_string(),
                "variable": entry.variable,
            });
            (entry.key.clone(), value)
        };
        Value::Object(self.entries.iter().map(entry).collect::<Map<_, _>>())
    }
}

impl fmt::Display for Effective<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .entries
            .iter()
            .map(|entry| entry.key.len())
            .max()
            .unwrap_or(0);
        for entry in self.entries {
            let value = entry.value.as_ref().map_or("?".to_owned(), shown);
            writeln!(f, "{:width$} = {value}   # {}", entry.key, entry.origin)?;
        }
        Ok(())
    }
}

/// A value as it would stand in the file; what is not set is a dash.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
