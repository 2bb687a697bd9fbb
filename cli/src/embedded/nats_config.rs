//! The environment of a nats-server: nats/nats-server.env with what differs here.

use std::collections::BTreeMap;
use std::path::Path;

/// The configuration files an operator uses too.
pub const SINGLE: &str = include_str!("../../../nats/nats-server.conf");
/// A node of a cluster.
pub const CLUSTER: &str = include_str!("../../../nats/nats-cluster.conf");
const DEFAULTS: &str = include_str!("../../../nats/nats-server.env");

/// Variables by name.
#[derive(Debug, Clone)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// What nats/nats-server.env says.
    pub fn defaults() -> Self {
        let lines = DEFAULTS.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
                .collect(),
        )
    }

    /// Changes one variable. Only those the file has are known, so that a slip shows.
    ///
    /// # Panics
    /// If the file has no such variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        let slot = self
            .0
            .get_mut(name)
            .expect("a variable of nats/nats-server.env");
        *slot = value.into();
        self
    }

    /// As pairs, for a process.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0.into_iter().collect()
    }
}

/// A path as a value in NATS' configuration language.
pub fn path_value(path: &Path) -> String {
    let text = path
        .to_string_lossy()
        .replace('\\', r"\\")
        .replace('"', "\\\"");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_means_on_disk_by_default() {
        assert_eq!(Environment::defaults().0["NATS_SYNC_INTERVAL"], "always");
    }

    #[test]
    fn every_variable_of_the_files_has_a_default_and_every_default_is_used() {
        let mut used: Vec<&str> = [SINGLE, CLUSTER]
            .iter()
            .flat_map(|file| file.lines())
            .filter_map(|line| line.split('#').next()?.split_once('$'))
            .filter_map(|(_, rest)| rest.split([' ', '\n']).next())
            .collect();
        used.sort_unstable();
        used.dedup();
        let known: Vec<String> = Environment::defaults().0.into_keys().collect();
        assert_eq!(used, known);
    }

    #[test]
    fn a_path_with_quotes_stays_one_value() {
        assert_eq!(path_value(Path::new(r#"/a b/"c""#)), r#""/a b/\"c\"""#);
    }
}
