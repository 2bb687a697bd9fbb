//! Keys and values on the broker, read from the leader: two sides that look for each other must not look at a copy that is
//! behind.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bytes::Bytes;
use chat4all_nats::Log;

/// One bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    log: Log,
    name: &'static str,
}

/// A value, and the revision it was written at.
#[derive(Clone, Debug)]
pub struct Value {
    /// What was written.
    pub bytes: Bytes,
    /// For the next compare-and-set.
    pub revision: u64,
    /// What was written beside it.
    pub headers: HeaderMap,
}

/// Why a bucket did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker is away, or did not answer in time.
    #[error("bucket {bucket} is out of reach")]
    Away {
        /// The bucket.
        bucket: &'static str,
        /// Why.
        #[source]
        source: async_nats::Error,
    },
    /// Somebody else wrote in between.
    #[error("somebody else wrote to bucket {bucket} in between")]
    Outdated {
        /// The bucket.
        bucket: &'static str,
    },
}

impl Bucket {
    /// The bucket of that name.
    pub const fn new(log: Log, name: &'static str) -> Self {
        Self { log, name }
    }

    /// Writes a value, whatever was there.
    ///
    /// # Errors
    /// [`Error::Away`]; it may have been written all the same.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<(), Error> {
        let message = PublishMessage::build().payload(value);
        self.publish(key, message).await.map(drop)
    }

    /// Writes a value that goes away after whole seconds, at least one.
    ///
    /// # Errors
    /// [`Error::Away`]; it may have been written all the same.
    pub async fn put_for(&self, key: &str, value: Bytes, kept: Duration) -> Result<(), Error> {
        let message = PublishMessage::build().payload(value).ttl(kept);
        self.publish(key, message).await.map(drop)
    }

    /// Writes a value over that of `revision` (0: there was none); gives the new revision.
    ///
    /// # Errors
    /// [`Error::Outdated`] when another value is there; [`Error::Away`], and it may have been written all the same.
    pub async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        let nothing = HeaderMap::new();
        self.update_with(key, value, nothing, revision).await
    }

    /// As [`Bucket::update`], with something beside the value.
    ///
    /// # Errors
    /// As there.
    pub async fn update_with(
        &self,
        key: &str,
        value: Bytes,
        beside: HeaderMap,
        revision: u64,
    ) -> Result<u64, Error> {
        let message = PublishMessage::build()
            .payload(value)
            .headers(beside)
            .expected_last_subject_sequence(revision);
        self.publish(key, message).await
    }

    async fn publish(&self, key: &str, message: PublishMessage) -> Result<u64, Error> {
        if !self.log.is_connected() {
            return Err(self.away("not connected".into()));
        }
        let subject = self.subject(key);
        let sent = self.log.jetstream().send_publish(subject, message).await;
        let ack = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        ack.map(|ack| ack.sequence).map_err(|error| {
            let code = std::error::Error::source(&error)
                .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
                .map(async_nats::jetstream::Error::error_code);
            match code {
                Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE) => {
                    Error::Outdated { bucket: self.name }
                }
                Some(_) | None => self.away(error.into()),
            }
        })
    }

    /// The last value under `key`, as the leader knows it.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn last(&self, key: &str) -> Result<Option<Value>, Error> {
        let stream = self
            .log
            .jetstream()
            .get_stream_no_info(format!("KV_{}", self.name))
            .await
            .map_err(|error| self.away(error.into()))?;
        match stream
            .get_last_raw_message_by_subject(&self.subject(key))
            .await
        {
            Ok(message) => Ok(Some(Value {
                revision: message.sequence,
                bytes: message.payload,
                headers: message.headers,
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.away(error.into())),
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    fn away(&self, source: async_nats::Error) -> Error {
        Error::Away {
            bucket: self.name,
            source,
        }
    }
}
