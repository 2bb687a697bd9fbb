//! Where settings come from: one file, and variables that win over it.
//!
//! The file is read by the `config` crate. Variables are laid over it here, because that crate guesses the type of a
//! variable from its text: a secret made of digits would become a number. Here the setting decides.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source as _, Value, ValueKind};

use super::Error;
use super::raw::Raw;

/// What every variable of ours begins with.
pub(crate) const PREFIX: &str = "CHAT4ALL_";

/// Variables with our prefix that are not settings. Any other unknown one is a mistake, most likely a misspelt setting.
const NOT_SETTINGS: &[&str] = &[
    "CHAT4ALL_CONFIG",
    "CHAT4ALL_TOOLS",
    "CHAT4ALL_STACK",
    "CHAT4ALL_URL",
    "CHAT4ALL_TOKEN",
    "CHAT4ALL_QUERY_URL",
    "CHAT4ALL_UP_STARTED",
    "CHAT4ALL_SEED",
];

/// What tests may call their own knobs.
const NOT_SETTINGS_PREFIX: &str = "CHAT4ALL_TEST_";

/// The text of the file and the variables, before anything is made of them.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<(PathBuf, String)>,
    variables: BTreeMap<String, String>,
}

impl Sources {
    /// Nothing set: only defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process's variables, and the file named by `--config` or else by `CHAT4ALL_CONFIG`, if any.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if a file is named and cannot be read.
    pub fn of_process(flag: Option<&Path>) -> Result<Self, Error> {
        let variables: BTreeMap<_, _> = std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let named = variables.get("CHAT4ALL_CONFIG").map(PathBuf::from);
        let file = match flag.map(Path::to_owned).or(named) {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(source) => return Err(Error::Unreadable { path, source }),
            },
        };
        Ok(Self { file, variables })
    }

    /// With this text as the file (TOML); the name is for reports.
    pub fn with_file(mut self, name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = Some((name.into(), text.into()));
        self
    }

    /// With this variable.
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Every leaf by its dotted key; a variable replaces what the file says.
    pub(crate) fn leaves(&self) -> Result<BTreeMap<String, Leaf>, Error> {
        let mut leaves = BTreeMap::new();
        if let Some((path, text)) = &self.file {
            let table = config::File::from_str(text, FileFormat::Toml)
                .collect()
                .map_err(|error| Error::Syntax {
                    path: path.clone(),
                    place: place(&error),
                })?;
            let origin = Origin::File(path.clone());
            for (key, value) in table {
                flatten(key, value, &origin, &mut leaves);
            }
        }
        for (name, value) in &self.variables {
            let exempt =
                NOT_SETTINGS.contains(&name.as_str()) || name.starts_with(NOT_SETTINGS_PREFIX);
            if let (Some(rest), false) = (name.strip_prefix(PREFIX), exempt) {
                let key = key_of(rest, &leaves);
                let origin = Origin::Variable(name.clone());
                leaves.insert(
                    key,
                    Leaf {
                        raw: Raw::Text(value.clone()),
                        origin,
                    },
                );
            }
        }
        Ok(leaves)
    }
}

/// Where the file stops being TOML, and why: the first and the last line of the parser's report. Between them it shows the
/// line itself, which may be that of a secret.
fn place(error: &config::ConfigError) -> String {
    let report = match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let mut lines = report
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first}: {last}"),
        (only, _) => only.unwrap_or_default().to_owned(),
    }
}

/// The key behind `A__B`. Variables cannot hold a hyphen, so a channel's `_` also stands for the `-` of its id: the id in
/// the file decides, and without one it is a hyphen.
fn key_of(rest: &str, leaves: &BTreeMap<String, Leaf>) -> String {
    let segments: Vec<String> = rest.to_lowercase().split("__").map(str::to_owned).collect();
    let [section, id, tail @ ..] = segments.as_slice() else {
        return segments.join(".");
    };
    if section != "channels" || tail.is_empty() {
        return segments.join(".");
    }
    let known = leaves
        .keys()
        .filter_map(|key| key.strip_prefix("channels.")?.split('.').next())
        .find(|known| known.replace('-', "_") == id.replace('-', "_"));
    let id = known.map_or_else(|| id.replace('_', "-"), str::to_owned);
    format!("channels.{id}.{}", tail.join("."))
}

/// The variable that sets a key.
pub(crate) fn variable_of(key: &str) -> String {
    format!(
        "{PREFIX}{}",
        key.replace('.', "__").replace('-', "_").to_uppercase()
    )
}

fn flatten(key: String, value: Value, origin: &Origin, leaves: &mut BTreeMap<String, Leaf>) {
    match value.kind {
        // A section nobody filled is nothing to read; an empty account is a mistake that must not pass unseen.
        ValueKind::Table(table) if !table.is_empty() || !key.contains('.') => {
            for (name, value) in table {
                flatten(format!("{key}.{name}"), value, origin, leaves);
            }
        }
        kind => {
            leaves.insert(
                key,
                Leaf {
                    raw: Raw::of(kind),
                    origin: origin.clone(),
                },
            );
        }
    }
}

/// Who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is the default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A variable, by name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One value as somebody wrote it.
pub(crate) struct Leaf {
    pub raw: Raw,
    pub origin: Origin,
}
