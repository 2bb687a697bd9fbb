//! What `chat4all doctor` has to say: sentences, each with what would be right and how to get there.

use clap::ValueEnum;
use serde::Serialize;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The settings themselves. They are always read.
    Config,
    /// The broker: reachable, large enough, writing as it should.
    Broker,
    /// The streams and buckets on it.
    Log,
    /// Postgres, its schema, and whether its rows are of this log.
    ReadModels,
    /// Whoever follows the log: at work, and keeping up.
    Readers,
    /// The accounts at providers.
    Channels,
    /// The running roles, by what they say on /readyz.
    Roles,
}

impl Area {
    /// How it is called: `read models`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::Broker => "broker",
            Self::Log => "log",
            Self::ReadModels => "read models",
            Self::Readers => "readers",
            Self::Channels => "channels",
            Self::Roles => "roles",
        }
    }
}

/// Whether somebody has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Something does not work, or will not.
    Wrong,
    /// Works, and somebody should know.
    Notice,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub area: Area,
    /// Whether somebody has to act.
    pub weight: Weight,
    /// What was found, as a sentence without its full stop; no secret, no text, no address of a person.
    pub what: String,
    /// What would be right.
    pub right: String,
    /// The command or the variable that mends it.
    pub mend: String,
}

impl Finding {
    /// Something that does not work, or will not.
    pub fn wrong(
        area: Area,
        what: impl Into<String>,
        right: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (weight, what) = (Weight::Wrong, what.into());
        let (right, mend) = (right.into(), mend.into());
        Self {
            area,
            weight,
            what,
            right,
            mend,
        }
    }

    /// Something that works, and that somebody should know.
    pub fn notice(
        area: Area,
        what: impl Into<String>,
        right: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let weight = Weight::Notice;
        Self {
            weight,
            ..Self::wrong(area, what, right, mend)
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let weight = match self.weight {
            Weight::Wrong => "WRONG ",
            Weight::Notice => "notice",
        };
        writeln!(f, "{weight}  {}: {}", self.area.name(), self.what)?;
        writeln!(f, "        right: {}", self.right)?;
        write!(f, "        mend:  {}", self.mend)
    }
}
