//! What is wrong with a configuration: everything at once, each with where to put it right.

use std::fmt;

use super::source::Origin;

/// One thing to put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A setting is missing or has a value it cannot have.
    Value {
        /// Dotted key.
        key: String,
        /// The variable that sets it.
        variable: String,
        /// Who set it.
        origin: Origin,
        /// What was found; for secrets, only that something was.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// Nothing has this name.
    Unknown {
        /// Dotted key as somebody wrote it.
        key: String,
        /// Who wrote it.
        origin: Origin,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// Two settings make no sense together.
    Pair {
        /// Key and value of the one.
        one: (String, String),
        /// Key and value of the other.
        other: (String, String),
        /// What must hold between them, and why.
        rule: &'static str,
    },
}

/// Everything that is wrong, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 {
            "mistake"
        } else {
            "mistakes"
        };
        write!(f, "the configuration has {} {plural}", self.0.len())?;
        for mistake in &self.0 {
            write!(f, "\n- {mistake}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value {
                key,
                variable,
                origin,
                found,
                expected,
            } => {
                write!(f, "{key} (variable {variable})")?;
                match origin {
                    Origin::File(path) => write!(f, ", set in {}", path.display())?,
                    Origin::Variable(_) => f.write_str(", set by the variable")?,
                    Origin::Default => {}
                }
                write!(f, ": found {found}, expected {expected}")
            }
            Self::Unknown {
                key,
                origin,
                nearest,
            } => {
                match origin {
                    Origin::Variable(name) => write!(f, "{name}: no setting has this variable")?,
                    Origin::File(_) | Origin::Default => {
                        write!(f, "{key}, set in {origin}: no setting has this name")?;
                    }
                }
                match (nearest, origin) {
                    (Some(near), Origin::Variable(_)) => {
                        write!(f, ", expected perhaps {}", super::source::variable_of(near))
                    }
                    (Some(near), _) => write!(f, ", expected perhaps {near}"),
                    (None, _) => Ok(()),
                }
            }
            Self::Pair {
                one: (one, a),
                other: (other, b),
                rule,
            } => {
                write!(f, "{one} ({a}) and {other} ({b}): {rule}")
            }
        }
    }
}

/// The known key that looks most like `key`, if any looks like it at all.
pub(crate) fn nearest<'a>(key: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let flat = key.replace('.', "_");
    known
        .into_iter()
        .map(|candidate| (distance(&flat, &candidate.replace('.', "_")), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many letters must be added, dropped or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
