//! Inbound items that were put aside: how they stand on the stream `PARKED`, and reading them in both directions.
//!
//! An item is there until it could be placed, or until it is thirty days old; the stream is the only truth about it. What is
//! read here is what an operator may see: who, when and why, never the raw item, which is a customer's message.
//!
//! JetStream reads forwards only. To read from the newest on, the sequence at which the last so many messages begin is
//! searched for: each answer of a direct get says how many messages follow (`Nats-Num-Pending`), so that the search takes a
//! number of requests that grows with the logarithm of the stream's length, however many holes it has. Messages that come or go
//! meanwhile make it read a little more, never skip one.
//!
//! Any replica may answer, and may be behind by a moment.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, jetstream};
use chat4all_domain::{AccountId, ChannelKind, Timestamp};
use tokio::time::{Instant, timeout_at};

use crate::direct::{self, Request};
use crate::streams::PARKED;
use crate::{ReadError, Stored};

/// Header of a parked item: why it was put aside, in our own words.
pub const REASON: &str = "reason";
/// Header of a parked item: the account it came through.
pub const ACCOUNT: &str = "channel-account";
/// Everything that is parked.
const EVERYTHING: &str = "chat.parked.>";
/// What the broker says in each answer of a batch: how many messages follow.
const PENDING: &str = "Nats-Num-Pending";
/// Raw items come along, up to 5 MiB each, and are dropped: so much of them at a time.
const MAX_BYTES: usize = 1024 * 1024;
/// The longest reason that is shown.
const MAX_REASON_CHARS: usize = 200;

/// The subject of an item that cannot be understood, or not be taken in.
pub fn item_subject(kind: ChannelKind, account: &AccountId) -> String {
    format!("chat.parked.{kind}.item.{account}")
}

/// The subject of a receipt for a message that nobody knows yet; `reference` is the shortened hash of the provider's id.
pub fn receipt_subject(kind: ChannelKind, account: &AccountId, reference: &str) -> String {
    format!("chat.parked.{kind}.receipt.{account}.{reference}")
}

/// One parked item, without what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its sequence on the stream.
    pub sequence: u64,
    /// What it is.
    pub what: What,
    /// The channel's kind; `None` for one that this release does not know.
    pub kind: Option<ChannelKind>,
    /// The account it came through.
    pub account: Option<AccountId>,
    /// Why it was put aside, in our own words.
    pub reason: String,
    /// When.
    pub parked_at: Timestamp,
    /// How large the raw item is, in bytes.
    pub size_bytes: usize,
}

/// What was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A part of a webhook call, or all of it.
    Item,
    /// A receipt of a message that nobody knows.
    Receipt {
        /// The shortened hash of the provider's id of that message.
        reference: String,
    },
}

impl From<Stored> for Item {
    fn from(stored: Stored) -> Self {
        let header = |name: &str| stored.headers.get(name).map(|value| value.as_str());
        let mut tokens = stored.subject.split('.').skip(2);
        let kind = tokens.next().and_then(|kind| kind.parse().ok());
        let what = match (tokens.next(), tokens.nth(1)) {
            (Some("receipt"), Some(reference)) => What::Receipt {
                reference: reference.to_owned(),
            },
            _ => What::Item,
        };
        let ms = stored.stored_at_ns.div_euclid(1_000_000);
        Self {
            sequence: stored.sequence,
            what,
            kind,
            account: header(ACCOUNT).and_then(|account| account.parse().ok()),
            reason: header(REASON)
                .unwrap_or("unknown")
                .chars()
                .take(MAX_REASON_CHARS)
                .collect(),
            parked_at: Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX)),
            size_bytes: stored.payload.len(),
        }
    }
}

/// Which items: those of one account, or all, with a sequence between the two, neither included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// Only those that came through it.
    pub account: Option<&'a AccountId>,
    /// Only later ones.
    pub above: Option<u64>,
    /// Only earlier ones.
    pub below: Option<u64>,
}

impl Part<'_> {
    fn filters(&self) -> Vec<String> {
        match self.account {
            None => vec![EVERYTHING.to_owned()],
            Some(account) => vec![
                format!("chat.parked.*.item.{account}"),
                format!("chat.parked.*.receipt.{account}.*"),
            ],
        }
    }
}

/// Reads `PARKED`. Cheap to clone; the broker may be away now.
#[derive(Clone, Debug)]
pub struct Parked {
    client: Client,
}

impl Parked {
    /// Reads over `client`.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// At most `size` items of `part`, the latest ones, newest first.
    ///
    /// # Errors
    /// [`ReadError`] when the broker gives no answer by `deadline`, at once when there is no connection.
    pub async fn newest(
        &self,
        part: &Part<'_>,
        size: usize,
        deadline: Instant,
    ) -> Result<Vec<Item>, ReadError> {
        let ends = self.ends(deadline).await?;
        let first = ends
            .first
            .max(part.above.map_or(0, |above| above.saturating_add(1)));
        let top = part
            .below
            .unwrap_or(u64::MAX)
            .min(ends.last.saturating_add(1));
        let mut found = Vec::new();
        for filter in part.filters() {
            let read = Read {
                client: &self.client,
                filter: &filter,
                deadline,
            };
            found.extend(read.last(first, top, ends.last, size).await?);
        }
        found.sort_by_key(|item| std::cmp::Reverse(item.sequence));
        found.truncate(size);
        Ok(found)
    }

    /// At most `size` items of `part`, the earliest ones, oldest first.
    ///
    /// # Errors
    /// As [`Parked::newest`].
    pub async fn oldest(
        &self,
        part: &Part<'_>,
        size: usize,
        deadline: Instant,
    ) -> Result<Vec<Item>, ReadError> {
        self.connected()?;
        let (from, top) = (
            part.above.map_or(1, |above| above.saturating_add(1)),
            part.below.unwrap_or(u64::MAX),
        );
        let mut found = Vec::new();
        for filter in part.filters() {
            let read = Read {
                client: &self.client,
                filter: &filter,
                deadline,
            };
            found.extend(read.from(from, top, (size, size)).await?);
        }
        found.sort_by_key(|item| item.sequence);
        found.truncate(size);
        Ok(found)
    }

    /// The item at `sequence`, if it is still there.
    ///
    /// # Errors
    /// As [`Parked::newest`].
    pub async fn get(&self, sequence: u64, deadline: Instant) -> Result<Option<Item>, ReadError> {
        let part = Part {
            account: None,
            above: Some(sequence.saturating_sub(1)),
            below: sequence.checked_add(1),
        };
        Ok(self.oldest(&part, 1, deadline).await?.pop())
    }

    /// Whether items can be read now.
    ///
    /// # Errors
    /// As [`Parked::newest`].
    pub async fn check(&self, deadline: Instant) -> Result<(), ReadError> {
        self.ends(deadline).await.map(drop)
    }

    /// What is sent into a connection that is down is kept and answered long after its caller has given up: so look first.
    fn connected(&self) -> Result<(), ReadError> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            State::Pending | State::Disconnected => Err(ReadError::Unanswered),
        }
    }

    async fn ends(&self, deadline: Instant) -> Result<Ends, ReadError> {
        self.connected()?;
        let left = deadline.saturating_duration_since(Instant::now());
        let js = jetstream::context::ContextBuilder::new()
            .timeout(left.max(Duration::from_millis(1)))
            .build(self.client.clone());
        let asked = async {
            let stream = js
                .get_stream(PARKED)
                .await
                .map_err(|error| match error.kind() {
                    jetstream::context::GetStreamErrorKind::JetStream(refusal) => {
                        ReadError::Refused(refusal.to_string())
                    }
                    _ => ReadError::Unanswered,
                })?;
            let state = &stream.cached_info().state;
            Ok(Ends {
                first: state.first_sequence.max(1),
                last: state.last_sequence,
            })
        };
        timeout_at(deadline, asked)
            .await
            .unwrap_or(Err(ReadError::Unanswered))
    }
}

/// The first and the last sequence of the stream, whether or not a message still stands there; `last` is 0 when nothing ever
/// came.
struct Ends {
    first: u64,
    last: u64,
}

/// One filter's messages.
struct Read<'a> {
    client: &'a Client,
    filter: &'a str,
    deadline: Instant,
}

impl Read<'_> {
    /// At most `size` messages from `from` on and below `top`, the earliest ones; `at_a_time` are asked for together.
    async fn from(
        &self,
        mut from: u64,
        top: u64,
        (size, at_a_time): (usize, usize),
    ) -> Result<Vec<Item>, ReadError> {
        let mut found = Vec::new();
        while found.len() < size && from < top {
            let missing = size - found.len();
            let batch = self.batch(from, missing.min(at_a_time)).await?;
            let Some(last) = batch.last() else { break };
            from = last.sequence + 1;
            let more = pending(last) > 0;
            let within = batch.into_iter().filter(|stored| stored.sequence < top);
            found.extend(within.map(Item::from));
            if !more {
                break;
            }
        }
        Ok(found)
    }

    /// At least the last `size` messages from `first` on and below `top`, if there are so many; in any order.
    async fn last(
        &self,
        first: u64,
        mut top: u64,
        end: u64,
        size: usize,
    ) -> Result<Vec<Item>, ReadError> {
        let mut found = Vec::new();
        while found.len() < size && first < top {
            let wanted = size - found.len();
            let beyond = match top > end {
                true => 0,
                false => self.count(top).await?,
            };
            let bottom = self.begin_of_last(wanted, (first, top), beyond).await?;
            // All of them up to the top, however many came or went since the look. One more than wanted shows that there are
            // no others without asking again.
            let all = (usize::MAX, wanted.saturating_add(1));
            found.extend(self.from(bottom, top, all).await?);
            top = bottom;
        }
        Ok(found)
    }

    /// Where the last `wanted` messages from `first` on and below `top` begin; `first` when there are not so many. `beyond`
    /// is how many there are from `top` on.
    async fn begin_of_last(
        &self,
        wanted: usize,
        (first, top): (u64, u64),
        beyond: u64,
    ) -> Result<u64, ReadError> {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let (mut width, mut too_late) = (wanted, top);
        let mut enough = loop {
            let tried = top.saturating_sub(width).max(first);
            let number = self.count(tried).await?.saturating_sub(beyond);
            if number == wanted || tried == first && number < wanted {
                return Ok(tried);
            }
            if number > wanted {
                break tried;
            }
            too_late = tried;
            width = width.saturating_mul(4);
        };
        while enough + 1 < too_late {
            let tried = enough + (too_late - enough) / 2;
            let number = self.count(tried).await?.saturating_sub(beyond);
            match number.cmp(&wanted) {
                std::cmp::Ordering::Equal => return Ok(tried),
                std::cmp::Ordering::Greater => enough = tried,
                std::cmp::Ordering::Less => too_late = tried,
            }
        }
        Ok(enough)
    }

    /// How many messages there are from `sequence` on.
    async fn count(&self, sequence: u64) -> Result<u64, ReadError> {
        let batch = self.batch(sequence, 1).await?;
        Ok(batch.last().map_or(0, |first| pending(first) + 1))
    }

    async fn batch(&self, sequence: u64, size: usize) -> Result<Vec<Stored>, ReadError> {
        let request = Request::Following {
            seq: sequence.max(1),
            batch: size.min(direct::BATCH),
            next_by_subj: self.filter,
            max_bytes: Some(MAX_BYTES),
        };
        direct::several(self.client, PARKED, &request, self.deadline).await
    }
}

fn pending(stored: &Stored) -> u64 {
    let said = stored.headers.get(PENDING);
    said.and_then(|value| value.as_str().parse().ok())
        .unwrap_or(0)
}
