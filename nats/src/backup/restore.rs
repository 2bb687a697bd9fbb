//! One stream, made from its copy: `$JS.API.STREAM.RESTORE`, which async-nats has no call for.
//!
//! The broker answers with a subject; each chunk is a request there, an empty one at the end is answered when the stream is
//! there. Until the last byte of the copy has come there is none: the broker keeps what comes beside its streams and moves
//! it over at the end, so a restore that breaks off leaves no half stream. It may leave a whole one.
//!
//! Source: nats-server 2.15.1; docs.nats.io, reference, "Restore Stream".

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Message};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{RESTORED, RESTORING, State, snapshot::ApiError};

/// How long the broker may need for a chunk.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long nobody may listen where a piece goes: in a cluster the subject that one node has answered with is known to the
/// others a moment later.
const LISTENED_WITHIN: Duration = Duration::from_secs(10);
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it may need to make a stream of all of them: it reads everything once.
const LONG_PATIENCE: Duration = Duration::from_secs(1_800);

/// Why a stream was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker says no.
    #[error("the broker does not restore stream {stream}: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// The broker's words.
        reason: String,
    },
    /// The connection broke, or the broker went away.
    #[error("restoring stream {stream} broke off")]
    BrokeOff {
        /// The stream.
        stream: String,
        /// How.
        #[source]
        source: async_nats::Error,
    },
}

#[derive(Serialize)]
struct Request {
    config: Value,
    state: State,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    deliver_subject: Option<String>,
    state: Option<State>,
}

/// A copy on its way back.
#[derive(Debug)]
pub struct Upload {
    client: Client,
    stream: String,
    subject: String,
}

impl Upload {
    /// Begins to make a stream, with the configuration it had but for compression, `replicas` copies of it, and the mark of `backup`.
    ///
    /// # Errors
    /// [`Error::Refused`] when the stream exists, or does not fit the broker's limits.
    pub async fn begin(
        client: &Client,
        stream: &str,
        (mut config, state): (Value, State),
        replicas: usize,
        backup: &str,
    ) -> Result<Self, Error> {
        config["num_replicas"] = replicas.into();
        if !config["metadata"].is_object() {
            config["metadata"] = Value::Object(serde_json::Map::new());
        }
        config["metadata"][RESTORING] = backup.into();
        if let Some(metadata) = config["metadata"].as_object_mut() {
            // Of an earlier life.
            metadata.remove(RESTORED);
        }
        if let Some(fields) = config.as_object_mut() {
            // Streams of older logs have it, and a cluster loses messages by it (ADR 0021).
            fields.remove("compression");
            if replicas > 1 {
                // A cluster does not offer that; see `streams::definitions`.
                fields.remove("persist_mode");
            }
        }
        let request = serde_json::to_vec(&Request { config, state }).expect("JSON to JSON");
        let mut begun = Self {
            client: client.clone(),
            stream: stream.to_owned(),
            subject: format!("$JS.API.STREAM.RESTORE.{stream}"),
        };
        let answer = begun.ask(request.into(), PATIENCE).await?;
        begun.subject = answer
            .and_then(|answer| answer.deliver_subject)
            .ok_or_else(|| begun.refused("it does not say where to send the copy"))?;
        Ok(begun)
    }

    /// Sends one piece of the copy: not empty, at most a few MiB.
    ///
    /// # Errors
    /// [`Error`]; begin again.
    pub async fn send(&mut self, piece: Bytes) -> Result<(), Error> {
        self.ask(piece, PATIENCE).await.map(drop)
    }

    /// That was all: the broker makes the stream, and says what it holds.
    ///
    /// # Errors
    /// [`Error`]; when the connection broke just now, the stream may be there all the same.
    pub async fn finish(mut self) -> Result<State, Error> {
        let answer = self.ask(Bytes::new(), LONG_PATIENCE).await?;
        answer
            .and_then(|answer| answer.state)
            .ok_or_else(|| self.refused("it does not say what the stream holds"))
    }

    /// `None` when the answer is empty: the piece has arrived.
    async fn ask(&mut self, payload: Bytes, patience: Duration) -> Result<Option<Answer>, Error> {
        let broke_off = |source: async_nats::Error| Error::BrokeOff {
            stream: self.stream.clone(),
            source,
        };
        let answer = self.answer(payload, patience).await;
        let answer = answer.map_err(broke_off)?;
        if answer.payload.is_empty() {
            return Ok(None);
        }
        let answer: Answer =
            serde_json::from_slice(&answer.payload).map_err(|error| broke_off(error.into()))?;
        match answer.error {
            Some(error) => Err(self.refused(&error.description)),
            None => Ok(Some(answer)),
        }
    }

    /// Asks again while nobody listens: then nobody was given the piece, so that it cannot be there twice.
    async fn answer(
        &self,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Message, async_nats::Error> {
        let begun = Instant::now();
        loop {
            let request = async_nats::Request::new()
                .payload(payload.clone())
                .timeout(Some(patience));
            let answer = self
                .client
                .send_request(self.subject.clone(), request)
                .await;
            match answer {
                Err(error)
                    if error.kind() == RequestErrorKind::NoResponders
                        && begun.elapsed() < LISTENED_WITHIN =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Refused {
            stream: self.stream.clone(),
            reason: reason.to_owned(),
        }
    }
}
