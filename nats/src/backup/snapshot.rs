//! One stream's copy, out of the broker: `$JS.API.STREAM.SNAPSHOT`, which async-nats has no call for.
//!
//! The answer says what the copy holds; then chunks come on a subject of ours, each with a number in its reply subject, and
//! each is acknowledged there: that is how the broker paces itself. The last chunk has no reply subject. An empty message
//! ends it, with status 204 when all went well. A chunk that got lost with a connection would leave a hole in the file that
//! the broker does not notice, so the numbers are checked.
//!
//! Source: nats-server 2.15.1; docs.nats.io, reference, "Snapshot Stream".

use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::State;

/// Bytes per chunk; the broker takes 1 KiB to 1 MiB.
const CHUNK: usize = 512 * 1024;
/// How long the broker may need until the next chunk.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a snapshot that somebody else has begun is waited for. One whose reader died ends after about 5 s.
const OTHERS: Duration = Duration::from_secs(15);
/// The broker's error code when there is no such stream.
const STREAM_NOT_FOUND: u64 = 10059;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no log, or not of this layout.
    #[error("there is no stream {0} on this broker")]
    Missing(String),
    /// The broker says no.
    #[error("the broker does not copy stream {stream}: {reason}")]
    Refused {
        /// The stream.
        stream: String,
        /// The broker's words.
        reason: String,
    },
    /// The connection broke, or the broker went away: begin again.
    #[error("the copy of stream {stream} broke off: {reason}")]
    BrokeOff {
        /// The stream.
        stream: String,
        /// What happened.
        reason: &'static str,
    },
}

#[derive(Serialize)]
struct Request<'a> {
    deliver_subject: &'a str,
    no_consumers: bool,
    chunk_size: usize,
    /// The broker checks each message's checksum first.
    jsck: bool,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    config: Option<Value>,
    state: Option<State>,
}

/// What the JetStream API says when it refuses.
#[derive(Deserialize)]
pub(super) struct ApiError {
    #[serde(default)]
    pub err_code: u64,
    #[serde(default)]
    pub description: String,
}

/// A copy on its way.
#[derive(Debug)]
pub struct Snapshot {
    /// The stream's configuration, as the broker writes it.
    pub config: Value,
    /// What the copy holds: exactly this, whatever is appended meanwhile.
    pub state: State,
    stream: String,
    client: Client,
    chunks: Subscriber,
    /// Chunks that have come.
    count: u64,
}

impl Snapshot {
    /// Asks for a copy of `stream` as it is now. Then call [`Snapshot::next`] until it gives `None`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn begin(client: &Client, stream: &str) -> Result<Self, Error> {
        let deadline = Instant::now() + OTHERS;
        loop {
            match Self::try_to_begin(client, stream).await {
                Err(Error::Refused { .. } | Error::BrokeOff { .. })
                    if Instant::now() < deadline =>
                {
                    sleep(Duration::from_millis(500)).await;
                }
                begun => return begun,
            }
        }
    }

    async fn try_to_begin(client: &Client, stream: &str) -> Result<Self, Error> {
        let broke_off = |reason| Error::BrokeOff {
            stream: stream.to_owned(),
            reason,
        };
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let chunks = subscribed.map_err(|_| broke_off("not connected"))?;
        let request = Request {
            deliver_subject: &inbox,
            no_consumers: true,
            chunk_size: CHUNK,
            jsck: true,
        };
        let request = serde_json::to_vec(&request).expect("a struct of numbers and strings");
        let request = async_nats::Request::new()
            .payload(request.into())
            .timeout(Some(PATIENCE));
        let subject = format!("$JS.API.STREAM.SNAPSHOT.{stream}");
        let answer = client.send_request(subject, request).await;
        let answer = answer.map_err(|_| broke_off("the broker does not answer"))?;
        let answer: Answer = serde_json::from_slice(&answer.payload)
            .map_err(|_| broke_off("the broker's answer cannot be read"))?;
        match answer {
            Answer {
                error: Some(error), ..
            } if error.err_code == STREAM_NOT_FOUND => Err(Error::Missing(stream.to_owned())),
            Answer {
                error: Some(error), ..
            } => Err(Error::Refused {
                stream: stream.to_owned(),
                reason: error.description,
            }),
            Answer {
                config: Some(config),
                state: Some(state),
                error: None,
            } => Ok(Self {
                config,
                state,
                stream: stream.to_owned(),
                client: client.clone(),
                chunks,
                count: 0,
            }),
            Answer { .. } => Err(broke_off("the broker's answer lacks the stream's state")),
        }
    }

    /// The next piece of the copy; `None` when that was all.
    ///
    /// # Errors
    /// [`Error::BrokeOff`]: what came so far is of no use; begin again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Ok(Some(chunk)) = timeout(PATIENCE, self.chunks.next()).await else {
            return Err(self.broke_off("nothing comes any more"));
        };
        match chunk.status.map(|status| status.as_u16()) {
            None if !chunk.payload.is_empty() => {}
            None | Some(204) => return Ok(None),
            // A leader that steps down, a flow control that nobody answered: what has come is of no use, and the copy can be
            // begun again. A copy that the broker does not make at all was refused at the beginning.
            Some(_) => return Err(self.broke_off("the broker ended it before it was complete")),
        }
        self.count += 1;
        if let Some(reply) = chunk.reply {
            let number = reply.rsplit('.').next().and_then(|text| text.parse().ok());
            if number != Some(self.count) {
                return Err(self.broke_off("a piece of it is missing"));
            }
            let acknowledged = self.client.publish(reply, Bytes::new()).await;
            acknowledged.map_err(|_| self.broke_off("not connected"))?;
        }
        Ok(Some(chunk.payload))
    }

    fn broke_off(&self, reason: &'static str) -> Error {
        Error::BrokeOff {
            stream: self.stream.clone(),
            reason,
        }
    }
}
