//! What is known about a job, as it stands in the bucket `REDRIVES`: `<job>.definition` and `<job>.items.<0000…>` (written once),
//! `<job>.progress` (by its worker), `<job>.word` (by operators).

use std::fmt;
use std::str::FromStr;

use chat4all_domain::{ChannelKind, ConversationId, MessageId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest list of a job.
pub const MAX_ITEMS: usize = 100_000;
/// The highest rate of a job, in items per second.
pub const MAX_RATE: u32 = 1_000;
/// Items in one value of the bucket: about 200 KB.
pub(super) const CHUNK: usize = 1_000;
/// Refusals that are shown one by one; the others are counted.
const SHOWN: usize = 100;

/// Names a job: a UUIDv7, so that they sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(Uuid);

impl Id {
    /// A new one.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for Id {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One dead letter on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Item {
    /// A delivery that has failed.
    FailedDelivery {
        /// The conversation.
        conversation: ConversationId,
        /// The message.
        message: MessageId,
        /// The delivery's number in it.
        n: u16,
        /// The channel's kind.
        channel: ChannelKind,
        /// The generation that failed: a later failure is another dead letter.
        generation: u32,
    },
    /// Something that came in and was put aside.
    ParkedInbound {
        /// Its sequence on the stream `PARKED`.
        sequence: u64,
    },
}

/// As in GraphQL, where the same text is its `id`.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailedDelivery {
                conversation,
                message,
                n,
                ..
            } => write!(f, "failed-delivery:{conversation}:{message}:{n}"),
            Self::ParkedInbound { sequence } => write!(f, "parked-inbound:{sequence}"),
        }
    }
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Who, in history.
    pub by: UserId,
    /// Who, as they call themselves.
    pub by_name: String,
    /// When.
    pub at: Timestamp,
    /// Which dead letters, in the operator's words.
    pub what: String,
    /// At most so many items per second, from 1.
    pub rate_per_s: u32,
    /// The list, in the order in which it is worked off.
    pub items: Vec<Item>,
}

/// What a job is. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Names it.
    pub id: Id,
    /// Who asked, in history.
    pub by: UserId,
    /// Who asked, as they call themselves.
    pub by_name: String,
    /// When.
    pub at: Timestamp,
    /// Which dead letters, in the operator's words.
    pub what: String,
    /// At most so many items per second.
    pub rate_per_s: u32,
    /// How long the list is.
    pub total: usize,
}

/// How far a job has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The place of the next item; those before it are done.
    pub next: usize,
    /// Tried again.
    pub redriven: usize,
    /// Needed nothing any more: not FAILED in that generation, or not there.
    pub skipped: usize,
    /// Could not be tried again.
    pub refused: usize,
    /// The first of those, and why.
    pub refusals: Vec<Refused>,
    /// When the first item was taken.
    pub started_at: Option<Timestamp>,
    /// When this was noted.
    pub noted_at: Option<Timestamp>,
    /// Items per second, of late.
    pub per_s: f64,
    /// When the last item was done.
    pub ended_at: Option<Timestamp>,
}

/// A dead letter that could not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub id: String,
    /// Why; nothing personal.
    pub why: String,
}

/// What became of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Redriven,
    Skipped,
    Refused(&'static str),
}

impl Progress {
    /// One item more is done.
    pub(super) fn count(&mut self, item: &Item, outcome: Outcome) {
        self.next += 1;
        match outcome {
            Outcome::Redriven => self.redriven += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Refused(why) => {
                self.refused += 1;
                if self.refusals.len() < SHOWN {
                    let (id, why) = (item.to_string(), why.to_owned());
                    self.refusals.push(Refused { id, why });
                }
            }
        }
    }
}

/// An operator's last word to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Whether it is to stop where it is.
    pub cancel: bool,
    /// Who says so.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Everything about a job but its list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    /// What it is.
    #[serde(flatten)]
    pub definition: Definition,
    /// How it is.
    pub state: State,
    /// How far it has come.
    #[serde(flatten)]
    pub progress: Progress,
    /// An operator's last word to it.
    pub word: Option<Word>,
}

/// How a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No worker has taken it yet.
    Waiting,
    /// It is worked off.
    Running,
    /// Everything on its list is done.
    Done,
    /// An operator stopped it; it can be resumed.
    Cancelled,
    /// Whoever asked for it was cut off before it was handed over; it can be resumed.
    Stopped,
}

impl State {
    /// `waiting`, `running`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
        }
    }

    /// What the parts add up to; `open`: workers see it.
    pub(super) fn of(progress: &Progress, word: Option<&Word>, open: bool) -> Self {
        let cancelled = word.is_some_and(|word| word.cancel);
        match (progress.ended_at, cancelled, open) {
            (Some(_), ..) => Self::Done,
            (None, true, _) => Self::Cancelled,
            (None, false, false) => Self::Stopped,
            (None, false, true) if progress.started_at.is_some() => Self::Running,
            (None, false, true) => Self::Waiting,
        }
    }
}
