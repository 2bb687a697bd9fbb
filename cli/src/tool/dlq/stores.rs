//! Where dead letters are: failed deliveries and poison events in Postgres, parked items on the broker. A store that is away
//! takes only its own kinds along.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chat4all_domain::Timestamp;
use chat4all_nats::Client;
use chat4all_nats::parked::{Parked, Part};
use chat4all_postgres::read::{Range, Reads, failed_deliveries, poison_events};
use chat4all_service::{Chain, Config};
use serde::Serialize;
use tokio::time::Instant;

use super::filter::{Kind, Which};
use super::id::Id;
use super::letter::Letter;
use crate::tool::{about, broker, database};

/// How long one question to a store may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Dead letters read at a time.
const PAGE: usize = 500;

/// The stores, as far as they are there.
pub struct Stores {
    pub reads: Reads,
    broker: Result<Client, String>,
    /// What to say when Postgres does not answer.
    about: String,
}

/// A kind that cannot be looked at now.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    pub kind: Kind,
    pub why: String,
}

/// A part of the list.
#[derive(Debug)]
pub struct Found {
    pub letters: Vec<Letter>,
    /// Where the next part begins.
    pub next: Option<Cursor>,
    pub left_out: Vec<LeftOut>,
}

/// A place in the list, `<milliseconds>@<id>`. It stays right when that dead letter leaves the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    at: Timestamp,
    id: Id,
}

impl From<&Letter> for Cursor {
    fn from(letter: &Letter) -> Self {
        let (at, id) = (letter.at, letter.id);
        Self { at, id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.at.unix_ms(), self.id)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (ms, id) = text.split_once('@')?;
            let at = Timestamp::from_unix_ms(ms.parse().ok()?);
            let id = id.parse().ok()?;
            Some(Self { at, id })
        };
        read().ok_or("a place is what the last line of `chat4all dlq ls` says")
    }
}

impl Stores {
    /// Those of this configuration.
    ///
    /// # Errors
    /// The configuration cannot be used; never that nobody answers.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let database = database(config, "dlq")?;
        let broker = broker(config, "dlq").await;
        Ok(Self {
            reads: Reads::new(database.pool(1), ANSWERED_WITHIN),
            broker: broker.map_err(|error| Chain(error.as_ref()).to_string()),
            about: about(&database),
        })
    }

    /// At most `limit` dead letters behind `after`.
    ///
    /// # Errors
    /// Nothing that was asked for can be read, or the part begins in a kind that cannot.
    pub async fn page(
        &self,
        which: &Which,
        after: Option<&Cursor>,
        limit: usize,
    ) -> anyhow::Result<Found> {
        let mut kinds = which.kinds();
        if let Some(after) = after {
            kinds.retain(|kind| *kind >= after.id.kind());
        }
        let mut found = Found {
            letters: Vec::new(),
            next: None,
            left_out: Vec::new(),
        };
        for kind in &kinds {
            let mut place = after.filter(|after| after.id.kind() == *kind).copied();
            loop {
                let page = match self.part(*kind, which, place.as_ref()).await {
                    Ok(page) => page,
                    // Whoever is within that kind must not be led past the rest of it.
                    Err(error) if place.is_some() || kinds.len() == found.left_out.len() + 1 => {
                        return Err(error);
                    }
                    Err(error) => {
                        let why = Chain(error.as_ref()).to_string();
                        found.left_out.push(LeftOut { kind: *kind, why });
                        break;
                    }
                };
                place = page.last().map(Cursor::from);
                let is_last = page.len() < PAGE || passed(*kind, which, place.as_ref());
                let wanted = page.into_iter().filter(|one| which.lets_through(one));
                found.letters.extend(wanted);
                if found.letters.len() > limit {
                    found.letters.truncate(limit);
                    found.next = found.letters.last().map(Cursor::from);
                    return Ok(found);
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The next dead letters of one kind, whatever their reasons and times; fewer than [`PAGE`] when there are no more.
    async fn part(
        &self,
        kind: Kind,
        which: &Which,
        after: Option<&Cursor>,
    ) -> anyhow::Result<Vec<Letter>> {
        match kind {
            Kind::Poison => {
                let after = after.and_then(|after| match after.id {
                    Id::PoisonEvent(position) => Some(poison_events::Cursor {
                        recorded_at: after.at,
                        position,
                    }),
                    Id::ParkedInbound(_) | Id::FailedDelivery(..) => None,
                });
                let page = poison_events::page(&self.reads, which.conversation, range(after)).await;
                Ok(letters(page.with_context(|| self.about.clone())?.items))
            }
            Kind::Parked => {
                let below = after.and_then(|after| match after.id {
                    Id::ParkedInbound(sequence) => Some(sequence),
                    Id::PoisonEvent(_) | Id::FailedDelivery(..) => None,
                });
                let part = Part {
                    account: which.account.as_ref(),
                    above: None,
                    below,
                };
                let deadline = Instant::now() + ANSWERED_WITHIN;
                let page = self.parked()?.newest(&part, PAGE, deadline).await;
                Ok(letters(page.context("parked items cannot be read")?))
            }
            Kind::FailedDelivery => {
                let after = after.and_then(|after| match after.id {
                    Id::FailedDelivery(conversation, message, n) => {
                        Some(failed_deliveries::Cursor {
                            failed_at: after.at,
                            key: (conversation, message, n),
                        })
                    }
                    Id::PoisonEvent(_) | Id::ParkedInbound(_) => None,
                });
                let filter = failed_deliveries::Filter {
                    account: which.account.clone(),
                    conversation: which.conversation,
                };
                let page = failed_deliveries::page(&self.reads, &filter, range(after)).await;
                Ok(letters(page.with_context(|| self.about.clone())?.items))
            }
        }
    }

    /// One dead letter; `None` when it is none, or not any more.
    ///
    /// # Errors
    /// Its store does not answer.
    pub async fn get(&self, id: Id) -> anyhow::Result<Option<Letter>> {
        let about = || self.about.clone();
        Ok(match id {
            Id::PoisonEvent(at) => {
                let keys = [(at.partition, at.sequence)];
                let found = poison_events::by_key(&self.reads, &keys).await;
                let mut found = found.with_context(about)?.into_values();
                found.next().map(Letter::from)
            }
            Id::ParkedInbound(sequence) => {
                let deadline = Instant::now() + ANSWERED_WITHIN;
                let found = self.parked()?.get(sequence, deadline).await;
                let found = found.context("parked items cannot be read")?;
                found.map(Letter::from)
            }
            Id::FailedDelivery(conversation, message, n) => {
                let keys = [(conversation, message, n)];
                let found = failed_deliveries::by_key(&self.reads, &keys).await;
                let mut found = found.with_context(about)?.into_values();
                found.next().map(Letter::from)
            }
        })
    }

    fn parked(&self) -> anyhow::Result<Parked> {
        let client = self.broker.as_ref();
        let client = client.map_err(|why| anyhow!("{why}"))?;
        Ok(Parked::new(client.clone()))
    }
}

/// Everything that comes now is too old. What is parked is in the order of its sequences, which are not quite times.
fn passed(kind: Kind, which: &Which, place: Option<&Cursor>) -> bool {
    let too_old = which.since.zip(place);
    kind != Kind::Parked && too_old.is_some_and(|(since, place)| place.at < since)
}

fn letters<T>(found: Vec<T>) -> Vec<Letter>
where
    Letter: From<T>,
{
    found.into_iter().map(Letter::from).collect()
}

const fn range<C>(after: Option<C>) -> Range<C> {
    Range {
        after,
        before: None,
        size: PAGE,
        from_end: false,
    }
}
