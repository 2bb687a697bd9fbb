//! Dead letters: what somebody must look at. Three kinds from two stores, as one list.
//!
//! The list is the kinds one behind the other, each newest first: so a page reads no more than it shows, a cursor stays right
//! while others arrive, and a store that is away takes only its own kinds along (docs/adr/0013-dead-letters.md).

mod cursor;
mod parked;
mod walk;

use std::sync::{Mutex, PoisonError};

use chat4all_domain::{AccountId, ConversationId};
use chat4all_nats::parked::Item;
use chat4all_postgres::read::failed_deliveries::{self, FailedDelivery};
use chat4all_postgres::read::poison_events::{self, PoisonEvent};
use chat4all_postgres::read::{Range, Slice};
use chat4all_service::Problem;
use chat4all_service::problem::Code;

pub use cursor::Cursor;
pub use parked::by_sequence;

use self::walk::Lists;
use crate::api::Models;
use crate::problem;

/// What kind of dead letter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event that the projector could not fold.
    PoisonEvent,
    /// Something that came in and could not be understood, or placed.
    ParkedInbound,
    /// A delivery that has failed.
    FailedDelivery,
}

impl Kind {
    /// All of them, the one that should never be first.
    pub const ALL: [Self; 3] = [Self::PoisonEvent, Self::ParkedInbound, Self::FailedDelivery];

    /// As clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PoisonEvent => "POISON_EVENT",
            Self::ParkedInbound => "PARKED_INBOUND",
            Self::FailedDelivery => "FAILED_DELIVERY",
        }
    }

    const fn store(self) -> Store {
        match self {
            Self::ParkedInbound => Store::Broker,
            Self::PoisonEvent | Self::FailedDelivery => Store::ReadModels,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    ReadModels,
    Broker,
}

/// One dead letter. None of them holds a text, an address or a provider's words.
#[derive(Clone, Debug)]
pub enum DeadLetter {
    /// See [`Kind::PoisonEvent`].
    PoisonEvent(PoisonEvent),
    /// See [`Kind::ParkedInbound`].
    ParkedInbound(Item),
    /// See [`Kind::FailedDelivery`].
    FailedDelivery(FailedDelivery),
}

/// Which dead letters.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// These kinds, in this order; none twice.
    pub kinds: Vec<Kind>,
    /// Only those of this account: no events, which have none.
    pub account: Option<AccountId>,
    /// Only those of this conversation: nothing that came in, which has none yet.
    pub conversation: Option<ConversationId>,
}

impl Wanted {
    fn may_have(&self, kind: Kind) -> bool {
        match kind {
            Kind::PoisonEvent => self.account.is_none(),
            Kind::ParkedInbound => self.conversation.is_none(),
            Kind::FailedDelivery => true,
        }
    }
}

/// A part of the list, and what is missing in it.
pub struct Page {
    pub slice: Slice<DeadLetter>,
    /// One for each kind whose store is away: its dead letters are left out.
    pub left_out: Vec<Problem>,
}

/// A part of the list of those that are `wanted`.
///
/// # Errors
/// 422 for a cursor of another list; 503 when everything that the part needs is away, and when it begins or ends within a
/// kind that is.
pub async fn page(models: &Models, wanted: &Wanted, range: Range<Cursor>) -> Result<Page, Problem> {
    let mut kinds = wanted.kinds.clone();
    kinds.retain(|kind| wanted.may_have(*kind));
    let located = Range {
        after: located(&kinds, "after", range.after)?,
        before: located(&kinds, "before", range.before)?,
        size: range.size,
        from_end: range.from_end,
    };
    let reading = Reading {
        models,
        wanted,
        kinds,
        away: Mutex::default(),
    };
    let slice = walk::walk(&reading, located).await?;
    let away = reading.away.into_inner();
    let away = away.unwrap_or_else(PoisonError::into_inner);
    match away.first() {
        Some((_, problem)) if away.len() == reading.kinds.len() => Err(problem.clone()),
        _ => Ok(Page {
            slice,
            left_out: away
                .into_iter()
                .map(|(kind, problem)| problem::left_out(kind.as_str(), &problem))
                .collect(),
        }),
    }
}

/// Which of the lists a cursor stands in.
fn located(
    kinds: &[Kind],
    argument: &str,
    cursor: Option<Cursor>,
) -> Result<Option<(usize, Cursor)>, Problem> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let list = kinds.iter().position(|kind| *kind == cursor.kind());
    let list = list.ok_or_else(|| {
        Problem::field(
            format!("/{argument}"),
            "is a cursor of a kind that is not asked for; take one from this list",
        )
    })?;
    Ok(Some((list, cursor)))
}

struct Reading<'a> {
    models: &'a Models,
    wanted: &'a Wanted,
    /// Those that there can be, in their order.
    kinds: Vec<Kind>,
    /// The kinds whose store was found away, and what it said.
    away: Mutex<Vec<(Kind, Problem)>>,
}

impl Lists for Reading<'_> {
    type Item = DeadLetter;
    type Cursor = Cursor;
    type Error = Problem;

    fn number(&self) -> usize {
        self.kinds.len()
    }

    /// A part of one kind; nothing when its store is away, unless the part begins or ends within it.
    async fn part(&self, list: usize, range: Range<Cursor>) -> Result<Slice<DeadLetter>, Problem> {
        let kind = self.kinds[list];
        let within = range.after.is_some() || range.before.is_some();
        let read = match self.known_away(kind) {
            Some(problem) => Err(problem),
            None => self.read(kind, range).await,
        };
        match read {
            Err(problem) if problem.code() == Code::Unavailable && !within => {
                let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
                if !away.iter().any(|(known, _)| *known == kind) {
                    away.push((kind, problem));
                }
                Ok(Slice::default())
            }
            read => read,
        }
    }
}

impl Reading<'_> {
    /// A store that hung once is not asked again for the same answer.
    fn known_away(&self, kind: Kind) -> Option<Problem> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let same = away.iter().find(|(known, _)| known.store() == kind.store());
        same.map(|(_, problem)| problem.clone())
    }

    async fn read(&self, kind: Kind, range: Range<Cursor>) -> Result<Slice<DeadLetter>, Problem> {
        let Models { reads, parked, .. } = self.models;
        match kind {
            Kind::PoisonEvent => {
                let range = narrowed(range, Cursor::of_poison_event);
                let slice = poison_events::page(reads, self.wanted.conversation, range).await;
                let slice = slice.map_err(|error| problem::of_read(&error))?;
                Ok(slice.map(DeadLetter::PoisonEvent))
            }
            Kind::ParkedInbound => {
                let range = narrowed(range, Cursor::of_parked_inbound);
                let slice = parked::page(parked, self.wanted.account.as_ref(), range).await?;
                Ok(slice.map(DeadLetter::ParkedInbound))
            }
            Kind::FailedDelivery => {
                let range = narrowed(range, Cursor::of_failed_delivery);
                let filter = failed_deliveries::Filter {
                    account: self.wanted.account.clone(),
                    conversation: self.wanted.conversation,
                };
                let slice = failed_deliveries::page(reads, &filter, range).await;
                let slice = slice.map_err(|error| problem::of_read(&error))?;
                Ok(slice.map(DeadLetter::FailedDelivery))
            }
        }
    }
}

/// The range in one kind's own cursors.
fn narrowed<C>(range: Range<Cursor>, of: impl Fn(Cursor) -> Option<C>) -> Range<C> {
    Range {
        after: range.after.and_then(&of),
        before: range.before.and_then(&of),
        size: range.size,
        from_end: range.from_end,
    }
}
