//! Ids as they stand in bodies and paths.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// A UUID that a client sent. What is none is refused in words that say what one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub Uuid);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a UUID such as 0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
        let uuid = Uuid::parse_str(text);
        uuid.map(Id)
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}
