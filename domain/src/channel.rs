//! Channels, their accounts, and the addresses they reach.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The kinds of channels. Adding one makes every exhaustive `match` ask what it means there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// WhatsApp Cloud API.
    WhatsApp,
}

impl ChannelKind {
    /// Every kind there is.
    pub const ALL: [Self; 1] = [Self::WhatsApp];

    /// The token used in subjects, keys, paths and bodies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WhatsApp => "whatsapp",
        }
    }
    /// Longest text one message can carry there, in Unicode scalar values.
    ///
    /// Source: WhatsApp Cloud API, text message body: 4,096 characters.
    pub const fn max_text_chars(self) -> usize {
        match self {
            Self::WhatsApp => 4_096,
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChannelKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// Names one account of a channel (`whatsapp-main`): 1–64 of `a-z`, `0-9`, `-`, `_`, so that it can stand in a subject,
/// a key and a URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

/// The text is not an account id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an account id is 1 to 64 characters of a-z, 0-9, `-` and `_`")]
pub struct ParseAccountIdError;

impl AccountId {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = ParseAccountIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(ParseAccountIdError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for AccountId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// An outside address in its canonical form (WhatsApp: the digits of an E.164 number). Personal: never printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

/// The text is not an address of that channel. Says what would be right, and never repeats the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Not a phone number.
    #[error(
        "a WhatsApp address is a phone number in E.164: 7 to 15 digits with the country code, with or without a leading `+`"
    )]
    NotE164,
}

impl Address {
    /// Reads an address as people write it on `kind` and brings it into canonical form.
    ///
    /// # Errors
    /// [`ParseAddressError`] says what an address of that kind looks like.
    pub fn parse(kind: ChannelKind, text: &str) -> Result<Self, ParseAddressError> {
        match kind {
            ChannelKind::WhatsApp => {
                let digits = text.strip_prefix('+').unwrap_or(text);
                let plausible = (7..=15).contains(&digits.len())
                    && digits.bytes().all(|b| b.is_ascii_digit())
                    && !digits.starts_with('0');
                if plausible {
                    Ok(Self(digits.to_owned()))
                } else {
                    Err(ParseAddressError::NotE164)
                }
            }
        }
    }
    /// The canonical text, for the provider and for owners of the data. Keep it out of logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
