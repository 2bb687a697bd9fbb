//! What one message on the log looks like, and the only place that knows older forms of it.
//!
//! ```json
//! {"command_id":"0193…","aggregate":"message","id":"message.<conversation>.<message>","version":1,
//!  "events":[{"v":1,"type":"MessageAccepted","facts":{…},"personal":{…}}],
//!  "meta":{"recorded_at":"2026-11-22T04:26:28.123Z"}}
//! ```
//! `version` counts the aggregate's events, from 1; it is that of the envelope's first event, so that a hole shows.
//! The same things an operator looks for stand in headers: types, versions, command id, traceparent.

use std::borrow::Cow;

use async_nats::HeaderMap;
use bytes::Bytes;
use chat4all_domain::{
    Aggregate, AggregateId, CommandId, Conversation, Delivery, Event, Identity, Message, Parts,
    Reader, Recorded, Revision, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::subject;

/// Header with the command's id; the same as `Nats-Msg-Id`, and readable.
pub const COMMAND_ID: &str = "command-id";
/// Header with the types of the events in the envelope, separated by commas.
pub const EVENT_TYPES: &str = "event-types";
/// Header with the version of each type, in the same order.
pub const EVENT_VERSIONS: &str = "event-versions";
/// Header with the W3C trace context of the command; one value per command when several were decided together.
pub const TRACEPARENT: &str = "traceparent";

/// What stands beside the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// When we recorded it, by our clock.
    pub recorded_at: Timestamp,
}

/// An envelope taken apart: 1..n events of one aggregate, appended together.
#[derive(Clone, Debug)]
pub struct Envelope<E> {
    /// The execution that appended it.
    pub command_id: CommandId,
    /// Number of its first event among the aggregate's events, from 1.
    pub version: u64,
    /// The events, upcast to today's form.
    pub events: Vec<E>,
    /// What stands beside them.
    pub meta: Meta,
}

/// Why a message on the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an envelope at all.
    #[error("the message is not an event envelope")]
    Malformed(#[source] serde_json::Error),
    /// The event is there, but not in a form we know.
    #[error("event {name} version {version} cannot be read")]
    Event {
        /// Its type.
        name: String,
        /// Its version.
        version: u16,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer release.
    #[error(
        "event {name} version {version} is newer than this release knows; upgrade before reading on"
    )]
    Newer {
        /// Its type.
        name: String,
        /// Its version.
        version: u16,
    },
    /// The subject says something else than the envelope, or names no aggregate we know.
    #[error("subject {subject} is not that of an aggregate this release knows")]
    Subject {
        /// The subject.
        subject: String,
    },
}

#[derive(Serialize)]
struct Out<'a, E> {
    command_id: CommandId,
    aggregate: &'static str,
    id: String,
    version: u64,
    events: Vec<OutEvent<'a, E>>,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct OutEvent<'a, E> {
    v: u16,
    #[serde(flatten)]
    event: &'a E,
}

/// The bytes of an envelope: serialised once, here.
pub fn encode<A: Aggregate>(
    id: &A::Id,
    command_id: CommandId,
    version: u64,
    events: &[A::Event],
    meta: &Meta,
) -> Bytes {
    let out = Out {
        command_id,
        aggregate: A::TYPE,
        id: id.path(),
        version,
        events: events
            .iter()
            .map(|event| OutEvent {
                v: chat4all_domain::event::version_of(event),
                event,
            })
            .collect(),
        meta,
    };
    serde_json::to_vec(&out)
        .expect("events are structs of strings and numbers")
        .into()
}

/// The headers of an envelope, so that `nats stream view` needs no decoder.
pub fn headers<E: Event>(
    command_id: CommandId,
    events: &[E],
    traceparents: &[String],
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let types: Vec<_> = events.iter().map(Event::name).collect();
    let versions: Vec<_> = events
        .iter()
        .map(|e| chat4all_domain::event::version_of(e).to_string())
        .collect();
    headers.insert(COMMAND_ID, command_id.to_string().as_str());
    headers.insert(EVENT_TYPES, types.join(",").as_str());
    headers.insert(EVENT_VERSIONS, versions.join(",").as_str());
    for traceparent in traceparents {
        headers.append(TRACEPARENT, traceparent.as_str());
    }
    headers
}

#[derive(Deserialize)]
struct In<'a> {
    command_id: CommandId,
    version: u64,
    #[serde(borrow)]
    events: Vec<InEvent<'a>>,
    meta: Meta,
}

/// An event whose parts are read once it is known which one it is.
#[derive(Deserialize)]
struct InEvent<'a> {
    v: u16,
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    facts: Option<&'a RawValue>,
    #[serde(borrow)]
    personal: Option<&'a RawValue>,
}

/// One step from an older form of an event to the next: `from` to `from + 1`.
pub struct Upcaster {
    /// The event's type.
    pub name: &'static str,
    /// The version it starts from.
    pub from: u16,
    /// Changes `{type, v, facts, personal}` in place.
    pub step: fn(&mut serde_json::Value),
}

/// Every step there is: none yet, all events are in their first form.
const UPCASTERS: &[Upcaster] = &[];

/// Reads an envelope of aggregate `A`.
///
/// # Errors
/// [`Error`] says what cannot be read: a poison message for whoever follows the log.
pub fn decode<A: Aggregate>(payload: &[u8]) -> Result<Envelope<A::Event>, Error> {
    decode_with::<A>(payload, UPCASTERS)
}

fn decode_with<A: Aggregate>(
    payload: &[u8],
    upcasters: &[Upcaster],
) -> Result<Envelope<A::Event>, Error> {
    let envelope: In<'_> = serde_json::from_slice(payload).map_err(Error::Malformed)?;
    let events = envelope
        .events
        .into_iter()
        .map(|event| decode_event(&event, upcasters));
    Ok(Envelope {
        command_id: envelope.command_id,
        version: envelope.version,
        events: events.collect::<Result<_, _>>()?,
        meta: envelope.meta,
    })
}

fn decode_event<E: Event>(event: &InEvent<'_>, upcasters: &[Upcaster]) -> Result<E, Error> {
    let (name, version) = (event.name.as_ref(), event.v);
    let today = E::TYPES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, version)| *version);
    let parts = Parts {
        facts: event.facts,
        personal: event.personal,
    };
    let read = match today {
        Some(today) if version == today => E::read(name, parts),
        Some(today) if version < today => upcast(event, version..today, upcasters),
        Some(_) | None => {
            return Err(Error::Newer {
                name: name.to_owned(),
                version,
            });
        }
    };
    read.map_err(|source| Error::Event {
        name: name.to_owned(),
        version,
        source,
    })
}

fn upcast<E: Event>(
    from: &InEvent<'_>,
    versions: std::ops::Range<u16>,
    upcasters: &[Upcaster],
) -> Result<E, serde_json::Error> {
    let mut event = json!({ "type": from.name, "v": from.v });
    for (part, raw) in [("facts", from.facts), ("personal", from.personal)] {
        if let Some(raw) = raw {
            event[part] = serde_json::from_str(raw.get())?;
        }
    }
    for version in versions {
        let step = upcasters
            .iter()
            .find(|step| step.name == from.name && step.from == version);
        if let Some(upcaster) = step {
            (upcaster.step)(&mut event);
        }
    }
    serde_json::from_value(event)
}

/// What one message on the log says, whichever aggregate it is about. Match it fully: a new aggregate asks to be decided.
#[derive(Clone, Debug)]
pub enum Change {
    /// A conversation changed.
    Conversation(
        chat4all_domain::ConversationId,
        Vec<Recorded<chat4all_domain::conversation::Event>>,
    ),
    /// A message changed.
    Message(
        chat4all_domain::message::Id,
        Vec<Recorded<chat4all_domain::message::Event>>,
    ),
    /// A delivery changed.
    Delivery(
        chat4all_domain::delivery::Id,
        Vec<Recorded<chat4all_domain::delivery::Event>>,
    ),
    /// A reader's mark moved.
    Reader(
        chat4all_domain::reader::Id,
        Vec<Recorded<chat4all_domain::reader::Event>>,
    ),
    /// An identity changed.
    Identity(
        chat4all_domain::IdentityId,
        Vec<Recorded<chat4all_domain::identity::Event>>,
    ),
}

impl Change {
    /// Reads the message that stands at `sequence`.
    ///
    /// # Errors
    /// [`Error`] says what cannot be read.
    pub fn read(message_subject: &str, sequence: u64, payload: &[u8]) -> Result<Self, Error> {
        let unknown = || Error::Subject {
            subject: message_subject.to_owned(),
        };
        let (partition, path) = subject::parse(message_subject).ok_or_else(unknown)?;
        let place = Revision::new(sequence).at(partition);
        match path.split('.').next() {
            Some("conversation") => Ok(Self::Conversation(
                AggregateId::from_path(path).ok_or_else(unknown)?,
                recorded::<Conversation>(payload, place)?,
            )),
            Some("message") => Ok(Self::Message(
                AggregateId::from_path(path).ok_or_else(unknown)?,
                recorded::<Message>(payload, place)?,
            )),
            Some("delivery") => Ok(Self::Delivery(
                AggregateId::from_path(path).ok_or_else(unknown)?,
                recorded::<Delivery>(payload, place)?,
            )),
            Some("reader") => Ok(Self::Reader(
                AggregateId::from_path(path).ok_or_else(unknown)?,
                recorded::<Reader>(payload, place)?,
            )),
            Some("identity") => Ok(Self::Identity(
                AggregateId::from_path(path).ok_or_else(unknown)?,
                recorded::<Identity>(payload, place)?,
            )),
            _ => Err(unknown()),
        }
    }
}

fn recorded<A: Aggregate>(
    payload: &[u8],
    place: chat4all_domain::Position,
) -> Result<Vec<Recorded<A::Event>>, Error> {
    let Envelope {
        command_id,
        events,
        meta,
        ..
    } = decode::<A>(payload)?;
    let recorded = |(index, event)| Recorded {
        event,
        revision: Revision::new(place.sequence),
        position: place,
        index: u16::try_from(index).unwrap_or(u16::MAX),
        recorded_at: meta.recorded_at,
        command_id,
    };
    Ok(events.into_iter().enumerate().map(recorded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_domain::reader::{self, ReadUpTo};

    fn id() -> reader::Id {
        reader::Id {
            conversation: "0191e2f4-7c1e-7a3b-8f00-000000000001".parse().unwrap(),
            participant: "0191e2f4-7c1e-7a3b-8f00-000000000002".parse().unwrap(),
        }
    }

    fn event(sequence: u64) -> reader::Event {
        let message = "0191e2f4-7c1e-7a3b-8f00-000000000003".parse().unwrap();
        let occurred_at = Timestamp::from_unix_ms(1_000);
        reader::Event::ReadUpTo {
            facts: ReadUpTo {
                message,
                sequence,
                occurred_at,
            },
        }
    }

    fn command() -> CommandId {
        "0191e2f4-7c1e-7a3b-8f00-000000000004".parse().unwrap()
    }

    #[test]
    fn an_envelope_has_the_form_that_stands_on_the_log() {
        let meta = Meta {
            recorded_at: Timestamp::from_unix_ms(2_000),
        };
        let bytes = encode::<Reader>(&id(), command(), 3, &[event(7)], &meta);
        let expected = r#"{"command_id":"0191e2f4-7c1e-7a3b-8f00-000000000004","aggregate":"reader","id":"reader.0191e2f4-7c1e-7a3b-8f00-000000000001.0191e2f4-7c1e-7a3b-8f00-000000000002","version":3,"events":[{"v":1,"type":"ReadUpTo","facts":{"message":"0191e2f4-7c1e-7a3b-8f00-000000000003","sequence":7,"occurred_at":"1970-01-01T00:00:01.000Z"}}],"meta":{"recorded_at":"1970-01-01T00:00:02.000Z"}}"#;
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
        let back = decode::<Reader>(&bytes).unwrap();
        assert_eq!(
            (back.version, back.events, back.meta),
            (3, vec![event(7)], meta)
        );
    }

    #[test]
    fn an_older_form_is_brought_up_step_by_step() {
        // A form that never was: version 0 called the sequence `seq`.
        let old = r#"{"command_id":"0191e2f4-7c1e-7a3b-8f00-000000000004","version":1,"events":[{"v":0,"type":"ReadUpTo","facts":{"message":"0191e2f4-7c1e-7a3b-8f00-000000000003","seq":7,"occurred_at":"1970-01-01T00:00:01Z"}}],"meta":{"recorded_at":"1970-01-01T00:00:02Z"}}"#;
        let upcasters = [Upcaster {
            name: "ReadUpTo",
            from: 0,
            step: |event| event["facts"]["sequence"] = event["facts"]["seq"].take(),
        }];
        let back = decode_with::<Reader>(old.as_bytes(), &upcasters).unwrap();
        assert_eq!(back.events, vec![event(7)]);
        let without = decode_with::<Reader>(old.as_bytes(), &[]).unwrap_err();
        assert_eq!(
            without.to_string(),
            "event ReadUpTo version 0 cannot be read"
        );
    }

    #[test]
    fn what_a_newer_release_wrote_is_refused_and_not_guessed() {
        for (name, v) in [("ReadUpTo", 2), ("ReadDownTo", 1)] {
            let new = format!(
                r#"{{"command_id":"{}","version":1,"events":[{{"v":{v},"type":"{name}","facts":{{}}}}],"meta":{{"recorded_at":"1970-01-01T00:00:02Z"}}}}"#,
                command()
            );
            let error = decode::<Reader>(new.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Newer { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused_and_says_nothing_of_its_content() {
        let secret = "+4915112345678";
        let payloads = [
            format!("\"{secret}\""),
            format!(r#"{{"version":1,"events":["{secret}"]}}"#),
            format!(
                r#"{{"command_id":"{}","version":1,"events":["{secret}"],"meta":{{"recorded_at":"1970-01-01T00:00:02Z"}}}}"#,
                command()
            ),
        ];
        for payload in payloads {
            let error = decode::<Reader>(payload.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{error}");
            assert_eq!(error.to_string(), "the message is not an event envelope");
        }
    }

    #[test]
    fn a_step_is_taken_for_its_own_type_and_version_alone() {
        let today = encode::<Reader>(
            &id(),
            command(),
            1,
            &[event(7)],
            &Meta {
                recorded_at: Timestamp::from_unix_ms(2_000),
            },
        );
        let upcasters = [("ReadUpTo", 1), ("Other", 0)].map(|(name, from)| Upcaster {
            name,
            from,
            step: |event| *event = serde_json::Value::Null,
        });
        let back = decode_with::<Reader>(&today, &upcasters).unwrap();
        assert_eq!(back.events, vec![event(7)]);
    }

    #[test]
    fn a_message_on_the_log_says_which_aggregate_it_is_about() {
        let meta = Meta {
            recorded_at: Timestamp::from_unix_ms(2_000),
        };
        let bytes = encode::<Reader>(&id(), command(), 1, &[event(7), event(9)], &meta);
        let subject = format!("chat.evt.05.{}", id().path());
        let Change::Reader(read, events) = Change::read(&subject, 42, &bytes).unwrap() else {
            panic!("not about a reader");
        };
        assert_eq!(read, id());
        assert_eq!(events.len(), 2);
        assert_eq!(
            (events[1].position.to_string(), events[1].index),
            ("05-42".to_owned(), 1)
        );
        assert!(Change::read("chat.evt.05.nonsense.1", 1, &bytes).is_err());
        assert!(Change::read(&format!("chat.evt.05.{}", "message.1"), 1, &bytes).is_err());
    }
}
