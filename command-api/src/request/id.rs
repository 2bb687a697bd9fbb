//! Ids as they stand in bodies and paths. What is none is refused in words that say what one looks like.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::Mistakes;

/// What one looks like.
const LIKE: &str = "a UUID such as 0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";

/// A UUID in a path, or in a body that has nothing else to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub Uuid);

/// A text where a body has an id. Whether it is one is understood with the rest, so that a client hears of that mistake
/// together with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyId(Option<Uuid>);

impl BodyId {
    /// The UUID, or `None` and one mistake more. `at` is where it stands in the body.
    pub fn understand(self, at: &str, mistakes: &mut Mistakes) -> Option<Uuid> {
        let none = || format!("found a string, expected {LIKE}");
        mistakes.check(at, self.0.ok_or_else(none))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text| Uuid::parse_str(text).ok().map(Self)))
    }
}

impl<'de> Deserialize<'de> for BodyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text| Some(Self(Uuid::parse_str(text).ok()))))
    }
}

/// Makes something of a text, or says that it is no UUID.
struct Text<T>(fn(&str) -> Option<T>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LIKE)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}
