//! Where something stands in the log. Two words for two questions: a [`Revision`] is what an aggregate looked like when
//! somebody decided; a [`Position`] is how far a reader has come. In JetStream both are stream sequences, which is
//! exactly why they are two types.

#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// One of the log's partitions: 0 to 63, two digits in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u8);

impl Partition {
    /// `None` when the number cannot be a partition of any installation (64 and up).
    pub const fn new(number: u8) -> Option<Self> {
        if number < PartitionCount::MAX {
            Some(Self(number))
        } else {
            None
        }
    }
    /// 0 to 63.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// How many partitions this installation has: chosen once, when the log is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCount(NonZeroU8);

impl PartitionCount {
    /// The most there can be: positions are written with two digits, and more streams cost more than they give.
    pub const MAX: u8 = 64;
    /// The hash that maps an id to a partition, as it stands in the streams' metadata.
    pub const HASH: &'static str = "fnv1a-32";

    /// `None` unless 1 ≤ `count` ≤ 64.
    pub const fn new(count: u8) -> Option<Self> {
        match NonZeroU8::new(count) {
            Some(n) if count <= Self::MAX => Some(Self(n)),
            _ => None,
        }
    }
    /// 1 to 64.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
    /// Every partition, lowest first.
    pub fn all(self) -> impl Iterator<Item = Partition> + Clone {
        (0..self.get()).map(Partition)
    }
    /// The partition that `key` belongs to: FNV-1a-32 of its 36-character lower-case text, mod the count.
    ///
    /// Source: docs/adr/0002-log.md (the broker's own `partition()` is the same function).
    pub fn of(self, key: Uuid) -> Partition {
        let mut buffer = Uuid::encode_buffer();
        let text = key.hyphenated().encode_lower(&mut buffer);
        Partition((fnv1a_32(text.as_bytes()) % u32::from(self.get())) as u8)
    }
}

fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// Stream sequence of an aggregate's last event, or 0 if it has none.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// The revision of an aggregate that has no event yet.
    pub const NONE: Self = Self(0);
    /// From the sequence of the aggregate's last event.
    pub const fn new(sequence: u64) -> Self {
        Self(sequence)
    }
    /// The stream sequence; 0 for none.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// The same place, as readers name it.
    pub const fn at(self, partition: Partition) -> Position {
        Position {
            partition,
            sequence: self.0,
        }
    }
}

/// How far a reader has come: partition and stream sequence, written `07-1234`. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The partition that the sequence counts in.
    pub partition: Partition,
    /// Stream sequence, from 1; 0 is "before the first".
    pub sequence: u64,
}

impl Position {
    /// Names `sequence` in `partition`.
    pub const fn new(partition: Partition, sequence: u64) -> Self {
        Self {
            partition,
            sequence,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.sequence)
    }
}

/// The text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position looks like `07-1234`: two digits of a partition below 64, a dash, a sequence")]
pub struct ParsePositionError;

impl FromStr for Position {
    type Err = ParsePositionError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (partition, sequence) = text.split_once('-').ok_or(ParsePositionError)?;
        if partition.len() != 2 || !digits(partition) || !digits(sequence) {
            return Err(ParsePositionError);
        }
        let number = partition.parse().map_err(|_| ParsePositionError)?;
        Ok(Self {
            partition: Partition::new(number).ok_or(ParsePositionError)?,
            sequence: sequence.parse().map_err(|_| ParsePositionError)?,
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
