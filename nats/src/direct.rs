//! Reading the log by sequence: batched direct get, and single reads from the leader.
//!
//! Batched direct get (`$JS.API.DIRECT.GET.<stream>` with `next_by_subj` and `batch`) is a request with several answers,
//! which async-nats has no call for. When the node that serves it dies no error ever comes, so each try is short. On a
//! cluster any replica may answer, and may be a little behind; the leader is asked with `STREAM.MSG.GET`.
//!
//! Source: docs/adr/0002-log.md.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::stream::{self, RawMessageErrorKind};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use chat4all_domain::Partition;
use futures::StreamExt;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{Log, streams};

/// How long one batch may take before it is asked for again.
const TRY: Duration = Duration::from_millis(1_500);
/// Messages asked for at a time.
pub(crate) const BATCH: usize = 500;

/// One message as it stands on a stream.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The subject it was stored under.
    pub subject: String,
    /// Its stream sequence.
    pub sequence: u64,
    /// The broker's time of storing, in nanoseconds since 1970.
    pub stored_at_ns: i128,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

impl Stored {
    /// The id it was published under: our command id.
    pub fn message_id(&self) -> Option<&str> {
        self.headers
            .get(NATS_MESSAGE_ID)
            .map(|value| value.as_str())
    }
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered until the deadline.
    #[error("the log did not answer in time")]
    Unanswered,
    /// The broker answered with something else.
    #[error("the log refused to be read: {0}")]
    Refused(String),
}

/// What a direct get can ask for.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Request<'a> {
    Following {
        seq: u64,
        batch: usize,
        next_by_subj: &'a str,
        /// The server stops behind the message that makes the answer this large.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_bytes: Option<usize>,
    },
    LastOfEach {
        multi_last: [&'a str; 1],
    },
}

/// Up to [`BATCH`] messages on `subject` (wildcards allowed) from `sequence` on, from any replica.
/// Fewer than [`BATCH`] means that the replica had no more.
pub(crate) async fn batch(
    log: &Log,
    stream: &str,
    subject: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<Vec<Stored>, Error> {
    let request = Request::Following {
        seq: sequence.max(1),
        batch: BATCH,
        next_by_subj: subject,
        max_bytes: None,
    };
    several(log.client(), stream, &request, deadline).await
}

/// The last message of every subject that matches `subject`, from any replica.
pub(crate) async fn last_of_each(
    log: &Log,
    stream: &str,
    subject: &str,
    deadline: Instant,
) -> Result<Vec<Stored>, Error> {
    several(
        log.client(),
        stream,
        &Request::LastOfEach {
            multi_last: [subject],
        },
        deadline,
    )
    .await
}

/// Every message of the answer, asked for again while nobody answers.
pub(crate) async fn several(
    client: &Client,
    stream: &str,
    request: &Request<'_>,
    deadline: Instant,
) -> Result<Vec<Stored>, Error> {
    loop {
        let until = deadline.min(Instant::now() + TRY);
        match timeout_at(until, several_once(client, stream, request)).await {
            Ok(Ok(messages)) => return Ok(messages),
            Ok(Err(error @ Error::Refused(_))) => return Err(error),
            Ok(Err(Error::Unanswered)) | Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(Err(Error::Unanswered)) | Err(_) => return Err(Error::Unanswered),
        }
    }
}

async fn several_once(
    client: &Client,
    stream: &str,
    request: &Request<'_>,
) -> Result<Vec<Stored>, Error> {
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(|_| Error::Unanswered)?;
    let request = serde_json::to_vec(request).expect("a struct of numbers and strings");
    client
        .publish_with_reply(
            format!("$JS.API.DIRECT.GET.{stream}"),
            inbox,
            request.into(),
        )
        .await
        .map_err(|_| Error::Unanswered)?;
    let mut messages = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.status.map(|status| status.as_u16()) {
            None | Some(200) => messages.push(stored(answer)?),
            // 204: that was all; 404: there is nothing.
            Some(204 | 404) => return Ok(messages),
            // Nobody serves this stream now.
            Some(503) => return Err(Error::Unanswered),
            Some(code) => {
                return Err(Error::Refused(format!(
                    "{code} {}",
                    answer.description.unwrap_or_default()
                )));
            }
        }
    }
    Err(Error::Unanswered)
}

fn stored(answer: async_nats::Message) -> Result<Stored, Error> {
    let headers = answer.headers.unwrap_or_default();
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    let missing = |name| Error::Refused(format!("the answer has no {name}"));
    let subject = header("Nats-Subject").ok_or_else(|| missing("Nats-Subject"))?;
    let sequence = header("Nats-Sequence").and_then(|text| text.parse().ok());
    let time = header("Nats-Time-Stamp").and_then(|text| {
        time::OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339).ok()
    });
    Ok(Stored {
        subject,
        sequence: sequence.ok_or_else(|| missing("Nats-Sequence"))?,
        stored_at_ns: time
            .ok_or_else(|| missing("Nats-Time-Stamp"))?
            .unix_timestamp_nanos(),
        payload: answer.payload,
        headers,
    })
}

/// The first message of a partition on `subject` (wildcards allowed) at or after `sequence`, as the leader knows it.
pub(crate) async fn next_from_leader(
    log: &Log,
    partition: Partition,
    subject: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<Option<Stored>, Error> {
    leader_next(log.stream(partition), subject, sequence, deadline).await
}

/// As [`next_from_leader`], for any stream.
pub(crate) async fn next_on(
    log: &Log,
    stream: &str,
    subject: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<Option<Stored>, Error> {
    let stream = log
        .jetstream()
        .get_stream_no_info(stream)
        .await
        .map_err(|_| Error::Unanswered)?;
    leader_next(&stream, subject, sequence, deadline).await
}

async fn leader_next(
    stream: &stream::Stream<()>,
    subject: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<Option<Stored>, Error> {
    let mut pause = Duration::from_millis(5);
    loop {
        let request = stream
            .raw_message_builder()
            .sequence(sequence.max(1))
            .next_by_subject(subject)
            .send();
        let Ok(answer) = timeout_at(deadline, request).await else {
            return Err(Error::Unanswered);
        };
        match answer {
            Ok(message) => {
                return Ok(Some(Stored {
                    subject: message.subject.to_string(),
                    sequence: message.sequence,
                    stored_at_ns: message.time.unix_timestamp_nanos(),
                    headers: message.headers,
                    payload: message.payload,
                }));
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(None),
            // No leader for a moment, a connection that broke, a node that died: ask again until the deadline.
            Err(_) if Instant::now() + pause < deadline => tokio::time::sleep(pause).await,
            Err(_) => return Err(Error::Unanswered),
        }
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

impl Log {
    /// Up to 500 messages of `partition` from `sequence` on, of every aggregate; empty when there are no more.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) when the log does not answer by `deadline`.
    pub async fn read(
        &self,
        partition: Partition,
        sequence: u64,
        deadline: Instant,
    ) -> Result<Vec<Stored>, Error> {
        batch(self, &streams::name(partition), ">", sequence, deadline).await
    }

    /// The message at `sequence` of `partition`, as its leader knows it; `None` when the log does not go so far.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) when the broker does not answer by `deadline`.
    pub async fn event_at(
        &self,
        partition: Partition,
        sequence: u64,
        deadline: Instant,
    ) -> Result<Option<Stored>, Error> {
        let found = next_from_leader(self, partition, ">", sequence, deadline).await?;
        Ok(found.filter(|stored| stored.sequence == sequence))
    }

    /// The sequence of the last message of `partition`, as its leader knows it; 0 when it is empty.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) when the broker does not answer by `deadline`.
    pub async fn last_sequence(
        &self,
        partition: Partition,
        deadline: Instant,
    ) -> Result<u64, Error> {
        let mut pause = Duration::from_millis(5);
        loop {
            match self.stream(partition).get_info().await {
                Ok(info) => return Ok(info.state.last_sequence),
                Err(_) if Instant::now() + pause < deadline => tokio::time::sleep(pause).await,
                Err(_) => return Err(Error::Unanswered),
            }
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }
}
