//! Reading a message back from the log when its turn has come; or remembering it, when it came a moment ago.

use std::sync::Arc;

use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind};
use chat4all_domain::message::{Accepted, AcceptedPersonal, Content, Event};
use chat4all_domain::{Partition, message};
use chat4all_nats::{Change, Log, Stored, codec, subject};
use moka::sync::Cache;

/// Bytes of messages that a worker remembers, at most: a backlog is read back from the log.
const REMEMBERED_BYTES: u64 = 16 * 1024 * 1024;
/// About what a message takes besides its text, and each address.
const MESSAGE_BYTES: usize = 512;
const ADDRESS_BYTES: usize = 64;

/// A message as it was accepted.
#[derive(Debug)]
pub struct Message {
    /// Where it stands.
    pub sequence: u64,
    /// Who, when, for whom.
    pub facts: Accepted,
    /// What was said, and the addresses.
    pub personal: AcceptedPersonal,
    /// The trace of the request that posted it.
    pub traceparent: Option<String>,
}

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log did not answer.
    #[error("the log did not give the message")]
    Away(#[source] async_nats::Error),
    /// What stands there is something else.
    #[error("what stands at sequence {0} is not the message")]
    Other(u64),
}

/// Messages that were folded lately. Most are sent at once, and need no second look at the log.
pub struct Recent(Cache<(Partition, u64), Arc<Message>>);

impl Recent {
    pub fn new() -> Self {
        let weigh = |_: &(Partition, u64), message: &Arc<Message>| {
            u32::try_from(message.bytes()).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(REMEMBERED_BYTES);
        Self(cache.weigher(weigh).build())
    }

    /// Remembers a message that was met on the way.
    pub fn folded(&self, partition: Partition, stored: &Stored, event: &Event) {
        let Event::Accepted { facts, personal } = event;
        let traceparent = stored.headers.get(codec::TRACEPARENT);
        let message = Message {
            sequence: stored.sequence,
            facts: facts.clone(),
            personal: personal.clone(),
            traceparent: traceparent.map(|value| value.as_str().to_owned()),
        };
        self.0
            .insert((partition, stored.sequence), Arc::new(message));
    }

    /// The message that was accepted at `sequence`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn at(
        &self,
        log: &Log,
        partition: Partition,
        sequence: u64,
    ) -> Result<Arc<Message>, Error> {
        match self.0.get(&(partition, sequence)) {
            Some(message) => Ok(message),
            None => at(log, partition, sequence).await.map(Arc::new),
        }
    }
}

impl Message {
    fn bytes(&self) -> usize {
        let text = match &self.personal.content {
            Content::Text { text } => text.reveal().len(),
            Content::Unsupported { what } => what.len(),
        };
        MESSAGE_BYTES + text + self.personal.addresses.len() * ADDRESS_BYTES
    }
}

/// The message that was accepted at `sequence`.
///
/// # Errors
/// See [`Error`].
async fn at(log: &Log, partition: Partition, sequence: u64) -> Result<Message, Error> {
    let stream = log.stream(partition);
    let stored = match stream.direct_get(sequence).await {
        Ok(stored) => stored,
        // A replica that is behind: the leader has it.
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => stream
            .get_raw_message(sequence)
            .await
            .map_err(|error| Error::Away(error.into()))?,
        Err(error) => return Err(Error::Away(error.into())),
    };
    read(&stored)
}

/// The message of that id; `None` when there is none.
///
/// # Errors
/// See [`Error`].
pub async fn of(log: &Log, id: &message::Id) -> Result<Option<Message>, Error> {
    let stream = log.stream(log.partition_of(id));
    let subject = subject::of(log.partitions(), id);
    let first = stream.raw_message_builder().sequence(1);
    match first.next_by_subject(subject).send().await {
        Ok(stored) => read(&stored).map(Some),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(Error::Away(error.into())),
    }
}

fn read(stored: &async_nats::jetstream::message::StreamMessage) -> Result<Message, Error> {
    let sequence = stored.sequence;
    let other = || Error::Other(sequence);
    let change = Change::read(&stored.subject, sequence, &stored.payload).map_err(|_| other())?;
    let Change::Message(_, events) = change else {
        return Err(other());
    };
    let traceparent = stored.headers.get(codec::TRACEPARENT);
    let traceparent = traceparent.map(|value| value.as_str().to_owned());
    let accepted = events.into_iter().next().map(|recorded| recorded.event);
    let Event::Accepted { facts, personal } = accepted.ok_or_else(other)?;
    Ok(Message {
        sequence,
        facts,
        personal,
        traceparent,
    })
}
