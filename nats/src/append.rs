//! One append: the only place that publishes an event, and the only one that decides whether it is on the log.
//!
//! An acknowledgement that does not come says nothing: the message may be stored, on its way, or lost. The leader knows.
//! By the expected revision ours can only be the *next* message on its subject, so one read decides: its id is ours –
//! stored; another id – somebody was faster, and ours can never be stored any more; none – not stored yet, publish again
//! with the same id and the same expectation. Command ids are fresh for every execution, so "the id is ours" is a proof.
//!
//! Source: docs/adr/0003-append.md.

use std::error::Error as _;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, ErrorCode};
use bytes::Bytes;
use chat4all_domain::{CommandId, Partition, Revision};
use tokio::time::Instant;
use tracing::debug;

use crate::direct::{self, Stored};
use crate::resolved::{Answer, Found};
use crate::{Log, streams};

/// Pause before an ambiguous publish is repeated.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 2..=50;

/// One message to be appended.
#[derive(Debug)]
pub struct Append {
    /// Where it goes.
    pub partition: Partition,
    /// The aggregate's subject.
    pub subject: String,
    /// The execution it belongs to.
    pub command_id: CommandId,
    /// The aggregate's revision that the decision was based on.
    pub expected: Revision,
    /// Readable headers.
    pub headers: HeaderMap,
    /// The envelope.
    pub payload: Bytes,
}

/// Why nothing was appended, or why nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody was faster. Reload and decide again.
    #[error("another writer was faster")]
    Conflict {
        /// What they wrote.
        winner: Box<Stored>,
    },
    /// The stream has reached `max_bytes`. Nothing was appended.
    #[error("the log is full")]
    Full,
    /// The envelope is larger than the log takes. Nothing was appended.
    #[error(
        "the events have {bytes} bytes, the log takes {} at most",
        streams::MAX_EVENT_BYTES
    )]
    TooLarge {
        /// The envelope's size.
        bytes: usize,
    },
    /// There was no connection until the deadline. Nothing was appended.
    #[error("the log is out of reach")]
    Unavailable,
    /// No answer until the deadline: it may be on the log, or come to be. Repeating the command is safe.
    #[error("the log did not confirm in time: the events may have been stored")]
    Unknown,
}

/// Appends one message after `expected`, and returns the revision it made.
///
/// # Errors
/// See [`Error`]: every variant but [`Error::Unknown`] is a promise that this message is not on the log and will not be.
pub async fn append(log: &Log, append: &Append, deadline: Instant) -> Result<Revision, Error> {
    if append.payload.len() > streams::MAX_EVENT_BYTES {
        return Err(Error::TooLarge {
            bytes: append.payload.len(),
        });
    }
    if !log.connected_by(deadline).await {
        return Err(Error::Unavailable);
    }
    let mut ambiguous = false;
    loop {
        let answer = match publish(log, append).await {
            Ok(revision) => {
                log.fullness()
                    .appended(append.partition, append.payload.len());
                return Ok(revision);
            }
            // A refusal counts only when nothing of ours can still be under way.
            Err(Outcome::Full) if !ambiguous => return Err(Error::Full),
            Err(Outcome::TooLarge) if !ambiguous => {
                return Err(Error::TooLarge {
                    bytes: append.payload.len(),
                });
            }
            Err(Outcome::Full | Outcome::TooLarge | Outcome::NotPublished) => Answer::Other,
            Err(Outcome::Ask(answer)) => {
                ambiguous = true;
                answer
            }
        };
        match ask_leader(log, append, deadline).await {
            Ok(Some(stored)) if is_ours(&stored, append.command_id) => {
                log.resolved().add(answer, Found::Ours);
                debug!(command.id = %append.command_id, "a lost acknowledgement was found on the log");
                log.fullness()
                    .appended(append.partition, append.payload.len());
                return Ok(Revision::new(stored.sequence));
            }
            Ok(Some(winner)) => {
                log.resolved().add(answer, Found::Another);
                return Err(Error::Conflict {
                    winner: Box::new(winner),
                });
            }
            Ok(None) => log.resolved().add(answer, Found::Nothing),
            Err(direct::Error::Unanswered | direct::Error::Refused(_)) => {
                return Err(Error::Unknown);
            }
        }
        if Instant::now() >= deadline {
            return Err(if ambiguous {
                Error::Unknown
            } else {
                Error::Unavailable
            });
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS))).await;
    }
}

fn is_ours(stored: &Stored, command_id: CommandId) -> bool {
    stored.message_id() == Some(command_id.to_string().as_str())
}

async fn ask_leader(
    log: &Log,
    append: &Append,
    deadline: Instant,
) -> Result<Option<Stored>, direct::Error> {
    let after = append.expected.get() + 1;
    direct::next_from_leader(log, append.partition, &append.subject, after, deadline).await
}

/// What a publish that was not acknowledged means.
enum Outcome {
    /// Only the leader knows.
    Ask(Answer),
    /// It never left this process.
    NotPublished,
    /// The stream is full.
    Full,
    /// It is too large.
    TooLarge,
}

async fn publish(log: &Log, append: &Append) -> Result<Revision, Outcome> {
    let message = PublishMessage::build()
        .headers(append.headers.clone())
        .message_id(append.command_id.to_string())
        .expected_stream(streams::name(append.partition))
        .expected_last_subject_sequence(append.expected.get())
        .payload(append.payload.clone());
    let sent = log
        .publishing()
        .send_publish(append.subject.clone(), message)
        .await;
    let ack = match sent {
        Ok(ack) => ack.await,
        Err(error) => return Err(unsent(&error)),
    };
    // `duplicate: true` is also ours: ids are never reused.
    ack.map(|ack| Revision::new(ack.sequence))
        .map_err(|error| unacknowledged(&error))
}

fn unsent(error: &PublishError) -> Outcome {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Outcome::TooLarge,
        PublishErrorKind::MaxAckPending => Outcome::NotPublished,
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::Other => Outcome::Ask(Answer::Silence),
    }
}

/// Conflicts have two codes (10071, and 10164 from clusters), "in flight" a third (10158); a node that changes hands
/// says it has no such stream. In all of these cases only the leader knows. What is left is a refusal.
fn unacknowledged(error: &PublishError) -> Outcome {
    let code = error
        .source()
        .and_then(|source| source.downcast_ref::<jetstream::Error>());
    let code = code.map(jetstream::Error::error_code);
    match code {
        // "Store failed" has one code for many reasons; only this one is a plain refusal (`discard: new`).
        Some(ErrorCode::STREAM_STORE_FAILED) if says_full(error) => Outcome::Full,
        Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Outcome::TooLarge,
        Some(_) => Outcome::Ask(Answer::of(code)),
        // The client turns "nobody answers for this subject" into a kind without a code.
        None if error.kind() == PublishErrorKind::StreamNotFound => Outcome::Ask(Answer::Other),
        None => Outcome::Ask(Answer::Silence),
    }
}

fn says_full(error: &PublishError) -> bool {
    error
        .source()
        .is_some_and(|source| source.to_string().contains("maximum bytes exceeded"))
}
