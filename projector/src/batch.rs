//! Events of several partitions that are folded together.

use std::collections::BTreeSet;

use chat4all_domain::{Partition, Position, Timestamp};
use chat4all_nats::{Change, Stored, codec};
use chat4all_postgres::checkpoint::Run;

/// So much is kept of the header with an unreadable envelope's types.
const MAX_TYPES_CHARS: usize = 1_000;

/// One message of the log, read.
#[derive(Clone)]
pub(crate) struct Event {
    /// Where it stands.
    pub position: Position,
    /// As it stands there.
    pub stored: Stored,
    /// What it says, or why it cannot be folded (nothing personal).
    pub change: Result<Change, String>,
}

impl Event {
    pub fn read(partition: Partition, stored: Stored) -> Self {
        let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
        Self {
            position: Position::new(partition, stored.sequence),
            change: change.map_err(|error| why(&error)),
            stored,
        }
    }

    /// Without what only a dead letter has of it, unless it is one: its subject, headers and bytes are far more than what it
    /// says, and a rebuild holds many.
    pub fn slim(mut self) -> Self {
        if self.change.is_ok() {
            self.stored.subject = String::new();
            self.stored.headers = Default::default();
            self.stored.payload = Default::default();
        }
        self
    }

    /// When we recorded it; for one that does not tell, when the broker stored it.
    pub fn recorded_at(&self) -> Timestamp {
        self.change
            .as_ref()
            .ok()
            .and_then(recorded_at)
            .unwrap_or_else(|| self.stored_at())
    }

    /// What it calls itself, by the header that every envelope has, however unreadable it is.
    pub fn event_types(&self) -> Option<String> {
        let header = self.stored.headers.get(codec::EVENT_TYPES)?;
        Some(header.as_str().chars().take(MAX_TYPES_CHARS).collect())
    }

    /// When the broker stored it.
    pub fn stored_at(&self) -> Timestamp {
        let ms = self.stored.stored_at_ns.div_euclid(1_000_000);
        Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX))
    }
}

fn recorded_at(change: &Change) -> Option<Timestamp> {
    match change {
        Change::Conversation(_, events) => events.last().map(|event| event.recorded_at),
        Change::Message(_, events) => events.last().map(|event| event.recorded_at),
        Change::Delivery(_, events) => events.last().map(|event| event.recorded_at),
        Change::Reader(_, events) => events.last().map(|event| event.recorded_at),
        Change::Identity(_, events) => events.last().map(|event| event.recorded_at),
    }
}

/// What is wrong, without the parser's own words: they repeat values, and those may be personal.
fn why(error: &codec::Error) -> String {
    match error {
        codec::Error::Malformed(source) if source.line() > 0 => {
            format!(
                "{error}: wrong at line {}, column {}",
                source.line(),
                source.column()
            )
        }
        // Within an event, the parser counts from where the event's part begins: that would be no place in the envelope.
        codec::Error::Malformed(_)
        | codec::Error::Event { .. }
        | codec::Error::Newer { .. }
        | codec::Error::Subject { .. } => error.to_string(),
    }
}

/// Events, sorted by position.
pub(crate) struct Batch(Vec<Event>);

impl Batch {
    pub fn new(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| (event.position.partition, event.position.sequence));
        Self(events)
    }

    pub fn events(&self) -> &[Event] {
        &self.0
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What each partition brings, if it has no hole.
    pub fn runs(&self) -> Result<Vec<Run>, Partition> {
        let partitions = self
            .0
            .chunk_by(|a, b| a.position.partition == b.position.partition);
        partitions.map(run).collect()
    }

    /// The events that cannot be folded, and why.
    pub fn unreadable(&self) -> impl Iterator<Item = (Position, &str)> {
        self.0.iter().filter_map(|event| {
            let reason = event.change.as_ref().err()?;
            Some((event.position, reason.as_str()))
        })
    }

    /// Takes away, per partition, the first event that cannot be folded and all after it; returns those first ones.
    pub fn cut_off_unreadable(&mut self) -> Vec<(Position, String)> {
        let mut cut: Vec<(Position, String)> = Vec::new();
        self.0.retain(|event| {
            if let Some((last, _)) = cut.last()
                && last.partition == event.position.partition
            {
                return false;
            }
            match &event.change {
                Ok(_) => true,
                Err(reason) => {
                    cut.push((event.position, reason.clone()));
                    false
                }
            }
        });
        cut
    }

    /// Takes away every event of those partitions.
    pub fn remove(&mut self, partitions: &BTreeSet<Partition>) {
        self.0
            .retain(|event| !partitions.contains(&event.position.partition));
    }

    /// Two batches of about the same size, or the batch itself when it has one event.
    pub fn halve(mut self) -> Result<(Self, Self), Self> {
        if self.0.len() < 2 {
            return Err(self);
        }
        let second = self.0.split_off(self.0.len() / 2);
        Ok((self, Self(second)))
    }

    /// The same events, none of which can be folded.
    pub fn marked_unreadable(mut self, reason: &str) -> Self {
        for event in &mut self.0 {
            event.change = Err(reason.to_owned());
        }
        self
    }
}

fn run(events: &[Event]) -> Result<Run, Partition> {
    let (first, last) = (&events[0], &events[events.len() - 1]);
    let partition = first.position.partition;
    let without_hole = events
        .windows(2)
        .all(|pair| pair[1].position.sequence == pair[0].position.sequence + 1);
    if !without_hole {
        return Err(partition);
    }
    Ok(Run {
        partition,
        first: first.position.sequence,
        last: last.position.sequence,
        recorded_at: last.recorded_at(),
    })
}
