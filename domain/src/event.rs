//! What every event and every aggregate has in common, on top of the `cqrs-es` traits.

use std::fmt;
use std::hash::Hash;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::{CommandId, Position, Revision, Timestamp};

/// A past fact. On the log it is `{type, v, facts, personal}`: `personal` (text, names, addresses, providers' ids that
/// contain them) stands apart from `facts`, so that it can be sealed one day without touching the facts.
pub trait Event: cqrs_es::DomainEvent + 'static {
    /// Every type in this enum, with the version it is written in today.
    const TYPES: &'static [(&'static str, u16)];

    /// The type as it stands on the log, `MessageAccepted`.
    fn name(&self) -> &'static str;

    /// Reads the event of that name, in the form it has today. The same as deserialising it with its `type`, without
    /// having to look for that among the rest first: every reader does this for every event.
    ///
    /// # Errors
    /// There is no event of that name, a part is missing, or is not what it should be.
    fn read<'de, D: Deserializer<'de>>(name: &str, parts: Parts<D>) -> Result<Self, D::Error>;
}

/// What stands on the log for an event, apart from its type and version.
#[derive(Clone, Copy, Debug)]
pub struct Parts<D> {
    /// `facts`, if it is there.
    pub facts: Option<D>,
    /// `personal`, if it is there.
    pub personal: Option<D>,
}

impl<'de, D: Deserializer<'de>> Parts<D> {
    pub(crate) fn facts<T: Deserialize<'de>>(&mut self) -> Result<T, D::Error> {
        part(self.facts.take(), "facts")
    }
    pub(crate) fn personal<T: Deserialize<'de>>(&mut self) -> Result<T, D::Error> {
        part(self.personal.take(), "personal")
    }
}

fn part<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    part: Option<D>,
    name: &'static str,
) -> Result<T, D::Error> {
    T::deserialize(part.ok_or_else(|| D::Error::missing_field(name))?)
}

/// The error of [`Event::read`] for a name that is none of the event's.
pub(crate) fn unknown<E: serde::de::Error>(name: &str) -> E {
    E::custom(format_args!("there is no event {name}"))
}

/// An aggregate of this system: a `cqrs-es` aggregate without services, so that deciding is pure.
///
/// `handle` must only decide and write to the sink; `apply` must only evolve. Both are total.
pub trait Aggregate:
    cqrs_es::Aggregate<
        Event: Event,
        Services = (),
        Command: Clone + Send + Sync + 'static,
        Error: Clone + PartialEq + Send + Sync + 'static,
    > + Clone
    + fmt::Debug
    + 'static
{
    /// What names one of them.
    type Id: AggregateId;
}

/// Names one aggregate and where on the log it lives: a pure function of ids.
pub trait AggregateId: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// The tokens behind the partition: `message.<conversation>.<message>`.
    fn path(&self) -> String;
    /// Reads back what [`AggregateId::path`] wrote; `None` for the path of another kind of aggregate.
    fn from_path(path: &str) -> Option<Self>;
    /// The id whose text decides the partition: the conversation's, or its own where it has none.
    fn partition_key(&self) -> Uuid;
}

/// One event as it was recorded on the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<E> {
    /// What happened.
    pub event: E,
    /// The revision it gave its aggregate. Events of one envelope share it.
    pub revision: Revision,
    /// Where it stands for readers.
    pub position: Position,
    /// Which of its envelope's events it is, from 0.
    pub index: u16,
    /// When we recorded it, by our clock.
    pub recorded_at: Timestamp,
    /// The execution that recorded it.
    pub command_id: CommandId,
}

/// Lets `cqrs-es` see what [`Event`] already says.
macro_rules! domain_event {
    ($event:ty) => {
        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                crate::Event::name(self).to_owned()
            }
            fn event_version(&self) -> String {
                crate::event::version_of(self).to_string()
            }
        }
    };
}
pub(crate) use domain_event;

/// The version that `event` is written in today.
pub fn version_of<E: Event>(event: &E) -> u16 {
    E::TYPES
        .iter()
        .find(|(name, _)| *name == event.name())
        .map_or(1, |(_, version)| *version)
}

/// Wires an aggregate's `decide` and `evolve` to the `cqrs-es` traits, so that nothing but wiring can be in there.
macro_rules! aggregate {
    ($state:ident, $id:ty, $command:ty, $event:ty, $rejection:ty, $name:literal) => {
        impl cqrs_es::Aggregate for $state {
            const TYPE: &'static str = $name;
            type Command = $command;
            type Event = $event;
            type Error = $rejection;
            type Services = ();

            async fn handle(
                &mut self,
                command: Self::Command,
                _services: &(),
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in self.decide(&command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }
            fn apply(&mut self, event: Self::Event) {
                *self = std::mem::take(self).evolve(&event);
            }
        }
        impl crate::Aggregate for $state {
            type Id = $id;
        }
    };
}
pub(crate) use aggregate;
