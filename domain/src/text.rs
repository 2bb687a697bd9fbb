//! Text that people wrote.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A message's or a title's text: not blank, no U+0000, at most [`Text::MAX_CHARS`]. Otherwise kept as it was written.
/// Personal: never printed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTextError {
    /// Nothing but white space.
    #[error("the text is blank; write at least one character that is not white space")]
    Blank,
    /// Postgres and several providers cannot carry it.
    #[error("the text contains U+0000; leave it out")]
    Nul,
    /// Longer than the limit.
    #[error("the text has {chars} characters; at most {max} are possible")]
    TooLong {
        /// How many Unicode scalar values it has.
        chars: usize,
        /// How many it may have.
        max: usize,
    },
}

impl Text {
    /// The longest text of a message, in Unicode scalar values: with JSON's longest escape for each (6 bytes) it still
    /// fits the log's limit of 256 KiB for a message.
    pub const MAX_CHARS: usize = 32_768;

    /// Takes the text as it is, or says why not.
    ///
    /// # Errors
    /// [`ParseTextError`] for blank text, U+0000, and more than `max` Unicode scalar values.
    pub fn parse(text: String, max: usize) -> Result<Self, ParseTextError> {
        if text.contains('\0') {
            return Err(ParseTextError::Nul);
        }
        if text.trim().is_empty() {
            return Err(ParseTextError::Blank);
        }
        let chars = text.chars().count();
        if chars > max {
            return Err(ParseTextError::TooLong { chars, max });
        }
        Ok(Self(text))
    }
    /// The text itself, for those who may read it. Keep it out of logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// Unicode scalar values.
    pub fn chars(&self) -> usize {
        self.0.chars().count()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?, Self::MAX_CHARS).map_err(de::Error::custom)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
