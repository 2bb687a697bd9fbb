//! The durable behind a feed: making it, putting it back to the feed's place, pulling from it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::ConsumerErrorKind;
use tracing::warn;

use super::{ACK_WAIT, Error, Feed, Keep, MAX_ACK_PENDING};

/// How long a pull stays open on the broker.
const PULL_EXPIRY: Duration = Duration::from_secs(5);
/// How often the broker shows that an idle pull is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Messages per pull.
const PULL_BATCH: usize = 500;
/// A consumer that is kept only while followed goes away after this long.
const FORGET_AFTER: Duration = Duration::from_secs(60);

impl Feed {
    pub(super) async fn make_durable(&self) -> Result<(), Error> {
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
            // Made with other settings by hand or by another release: good enough, it is only the doorbell.
            Err(error) if matches!(error.kind(), ConsumerErrorKind::JetStream(_)) => {
                warn!(durable = %self.spec.durable, %error, "the durable exists with other settings");
                Ok(())
            }
            Err(error) => Err(self.consumer_error(error.into())),
        }
    }

    fn kept(&self) -> pull::Config {
        match self.spec.keep {
            Keep::Always => pull::Config {
                ack_policy: AckPolicy::Explicit,
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

    pub(super) async fn restore_durable(&self) -> Result<(), Error> {
        self.make_durable().await?;
        self.reset_durable().await
    }

    pub(super) async fn reset_durable(&self) -> Result<(), Error> {
        let stream = self
            .log
            .jetstream()
            .get_stream_no_info(&self.spec.stream)
            .await;
        let stream = stream.map_err(|error| self.consumer_error(error.into()))?;
        let reset = stream
            .reset_consumer(&self.spec.durable, Some(self.tail + 1))
            .await;
        reset
            .map(drop)
            .map_err(|error| self.consumer_error(error.into()))
    }

    pub(super) async fn open_pull(&self) -> Result<pull::Stream, Error> {
        let (stream, durable) = (&self.spec.stream, &self.spec.durable);
        let consumer: Consumer<pull::Config> = self
            .log
            .jetstream()
            .get_consumer_from_stream(durable, stream)
            .await
            .map_err(|error| self.consumer_error(error.into()))?;
        let pull = consumer
            .stream()
            .max_messages_per_batch(PULL_BATCH)
            .expires(PULL_EXPIRY)
            .heartbeat(HEARTBEAT)
            .messages()
            .await;
        pull.map_err(|error| self.consumer_error(error.into()))
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
