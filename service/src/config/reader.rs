//! Reads settings one by one, and remembers what was read, from where, and what was wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use super::mistake::Mistake;
use super::source::{Leaf, Origin, variable_of};
use super::spec::Spec;

/// One setting after reading: what the reference and the effective configuration are printed from.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Dotted key, such as `nats.url`.
    pub key: String,
    /// The variable that sets it.
    pub variable: String,
    /// What it is for.
    pub about: &'static str,
    /// What is accepted.
    pub expected: String,
    /// What holds when nothing is set; `None` if it must be set. Secrets hidden.
    pub default: Option<Value>,
    /// What holds now; secrets hidden. `None`: it was mistaken.
    pub value: Option<Value>,
    /// Who set it.
    pub origin: Origin,
}

/// What reading has brought up so far.
#[derive(Default)]
pub(crate) struct Report {
    pub entries: Vec<Entry>,
    pub mistakes: Vec<Mistake>,
}

/// Reads the settings under one prefix.
pub(crate) struct Reader<'a> {
    /// What nobody has asked for yet; what remains at the end is unknown.
    leaves: &'a mut BTreeMap<String, Leaf>,
    report: &'a mut Report,
    prefix: String,
}

impl<'a> Reader<'a> {
    pub fn new(leaves: &'a mut BTreeMap<String, Leaf>, report: &'a mut Report) -> Self {
        Self {
            leaves,
            report,
            prefix: String::new(),
        }
    }

    /// A reader for the settings under `name`.
    pub fn section(&mut self, name: &str) -> Reader<'_> {
        let prefix = format!("{}{name}.", self.prefix);
        Reader {
            leaves: self.leaves,
            report: self.report,
            prefix,
        }
    }

    /// The names directly under this prefix that somebody has set, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .leaves
            .keys()
            .filter_map(|key| key.strip_prefix(&self.prefix)?.split_once('.'))
            .map(|(name, _)| name.to_owned())
            .collect();
        names.dedup();
        names
    }

    /// A mistake about `name` that is not in its value.
    pub fn mistaken(&mut self, name: &str, found: String, expected: &str) {
        let key = format!("{}{name}", self.prefix);
        self.report.mistakes.push(Mistake::Value {
            variable: variable_of(&key),
            origin: Origin::Default,
            key,
            found,
            expected: expected.to_owned(),
        });
    }

    /// Drops what is set under this prefix: a mistake already reported makes it unreadable.
    pub fn forget(&mut self) {
        let prefix = &self.prefix;
        self.leaves.retain(|key, _| !key.starts_with(prefix));
    }

    /// Reads one setting; `None` and a reported mistake if it is wrong or missing.
    pub fn field<T: Clone + 'static>(
        &mut self,
        name: &str,
        about: &'static str,
        spec: Spec<T>,
    ) -> Option<T> {
        let key = format!("{}{name}", self.prefix);
        let (read, origin) = match self.leaves.remove(&key) {
            None => (
                spec.default.clone().ok_or("nothing".to_owned()),
                Origin::Default,
            ),
            Some(Leaf { raw, origin }) => {
                let found = if spec.secret {
                    "something else (not shown)".to_owned()
                } else {
                    raw.shown()
                };
                ((spec.parse)(&raw).ok_or(found), origin)
            }
        };
        let variable = variable_of(&key);
        self.report.entries.push(Entry {
            key: key.clone(),
            variable: variable.clone(),
            about: about.trim(),
            expected: spec.expected.clone().into_owned(),
            default: spec.default.as_ref().map(&spec.show),
            value: read.as_ref().ok().map(&spec.show),
            origin: origin.clone(),
        });
        read.map_err(|found| {
            let expected = spec.expected.into_owned();
            self.report.mistakes.push(Mistake::Value {
                key,
                variable,
                origin,
                found,
                expected,
            });
        })
        .ok()
    }
}
