//! The durable behind a feed: making it, putting it back to the feed's place, pulling from it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::ConsumerErrorKind;
use tracing::{info, warn};

use super::pull::Pull;
use super::{ACK_WAIT, Error, Feed, Keep, MAX_ACK_PENDING};

/// A consumer that is kept only while followed goes away after this long.
const FORGET_AFTER: Duration = Duration::from_secs(60);

impl Feed {
    pub(super) async fn make_durable(&self) -> Result<(), Error> {
        self.make(false).await
    }

    async fn make(&self, anew: bool) -> Result<(), Error> {
        let config = pull::Config {
            durable_name: Some(self.spec.durable.clone()),
            description: Some(self.spec.description.clone()),
            deliver_policy: DeliverPolicy::All,
            max_deliver: -1,
            filter_subject: self.spec.filter.clone().unwrap_or_default(),
            ..self.kept()
        };
        let made = self
            .log
            .jetstream()
            .create_consumer_on_stream(config, &self.spec.stream)
            .await;
        match made {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ConsumerErrorKind::JetStream(_)) => {
                if !anew && self.is_acknowledged_otherwise().await {
                    info!(durable = %self.spec.durable, "the durable is acknowledged one by one: it is made anew");
                    self.delete_durable().await?;
                    return Box::pin(self.make(true)).await;
                }
                // Made with other settings by hand or by another release: good enough, it is only the doorbell.
                warn!(durable = %self.spec.durable, %error, "the durable exists with other settings");
                Ok(())
            }
            Err(error) => Err(self.consumer_error(error.into())),
        }
    }

    /// Whether the durable was made by a release that acknowledged every message: with one acknowledgement for many, it would
    /// soon offer nothing more.
    async fn is_acknowledged_otherwise(&self) -> bool {
        let (stream, durable) = (&self.spec.stream, &self.spec.durable);
        let found: Result<Consumer<pull::Config>, _> = self
            .log
            .jetstream()
            .get_consumer_from_stream(durable, stream)
            .await;
        found.is_ok_and(|found| found.cached_info().config.ack_policy != self.kept().ack_policy)
    }

    async fn delete_durable(&self) -> Result<(), Error> {
        let (stream, durable) = (&self.spec.stream, &self.spec.durable);
        let js = self.log.jetstream();
        let deleted = js.delete_consumer_from_stream(durable, stream).await;
        deleted
            .map(drop)
            .map_err(|error| self.consumer_error(error.into()))
    }

    fn kept(&self) -> pull::Config {
        match self.spec.keep {
            Keep::Always => pull::Config {
                // One acknowledgement for everything that was folded: two publishes less per event and reader.
                ack_policy: AckPolicy::All,
                ack_wait: ACK_WAIT,
                max_ack_pending: MAX_ACK_PENDING,
                ..pull::Config::default()
            },
            Keep::WhileFollowed => pull::Config {
                ack_policy: AckPolicy::None,
                inactive_threshold: FORGET_AFTER,
                memory_storage: true,
                ..pull::Config::default()
            },
        }
    }

    pub(super) async fn restore_durable(&mut self) -> Result<(), Error> {
        self.make_durable().await?;
        self.reset_durable().await
    }

    /// Puts the durable back to where this feed is. What was offered before is acknowledged no more: the numbers in it would be
    /// those of another time.
    pub(super) async fn reset_durable(&mut self) -> Result<(), Error> {
        let stream = self
            .log
            .jetstream()
            .get_stream_no_info(&self.spec.stream)
            .await;
        let stream = stream.map_err(|error| self.consumer_error(error.into()))?;
        self.unacknowledged.clear();
        let reset = stream
            .reset_consumer(&self.spec.durable, Some(self.tail + 1))
            .await;
        reset
            .map(drop)
            .map_err(|error| self.consumer_error(error.into()))
    }

    pub(super) async fn open_pull(&self) -> Result<Pull, Error> {
        let (stream, durable) = (&self.spec.stream, &self.spec.durable);
        let found: Result<Consumer<pull::Config>, _> = self
            .log
            .jetstream()
            .get_consumer_from_stream(durable, stream)
            .await;
        found.map_err(|error| self.consumer_error(error.into()))?;
        let handles = (self.log.jetstream().clone(), self.log.client().clone());
        let opened = Pull::open(handles, (stream, durable)).await;
        opened.map_err(|error| self.consumer_error(error.into()))
    }

    pub(super) fn consumer_error(&self, source: async_nats::Error) -> Error {
        let (stream, durable) = (self.spec.stream.clone(), self.spec.durable.clone());
        Error::Consumer {
            stream,
            durable,
            source,
        }
    }
}
