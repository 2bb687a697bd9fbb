//! Reading a long stretch of one partition once, from its first event to its last: for rebuilds.
//!
//! A nameless consumer in the broker's memory brings what stands there for a third of what the same messages cost the broker
//! as answers to direct gets, which carry five headers more each. It is believed as little as any other consumer: a
//! message counts only if its sequence is the next one. At the first that is not, at the first silence and at every
//! error, the scan goes on by direct gets, and stays with them.
//!
//! Source: docs/adr/0014-rebuild.md.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use chat4all_domain::Partition;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::Pace;
use super::pull::Pull;
use crate::direct::{self, Stored};
use crate::{Log, streams};

/// How long the consumer may bring nothing although something was asked for.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the broker keeps the consumer of a reader that died.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Messages given at a time.
const CHUNK: usize = 500;

/// A stretch of one partition, read from its beginning to wherever the reader stops.
pub struct Scan {
    log: Log,
    partition: Partition,
    /// The last sequence that was given.
    after: u64,
    consumer: Option<(String, Pull)>,
}

impl Scan {
    /// From the event behind `after` on.
    pub async fn behind(log: Log, partition: Partition, after: u64) -> Self {
        let consumer = match open(&log, partition, after + 1).await {
            Ok(consumer) => Some(consumer),
            Err(error) => {
                debug!(partition = %partition, %error, "no consumer for a scan");
                None
            }
        };
        Self {
            log,
            partition,
            after,
            consumer,
        }
    }

    /// The name of the consumer that serves it; `None` when it reads by direct gets.
    pub fn consumer(&self) -> Option<&str> {
        self.consumer.as_ref().map(|(name, _)| name.as_str())
    }

    /// What stands behind what was given before, in order and without a hole, up to 500 events; empty when a replica has no more.
    ///
    /// # Errors
    /// [`ReadError`](crate::ReadError) when the log does not answer by `deadline`.
    pub async fn next(&mut self, deadline: Instant) -> Result<Vec<Stored>, direct::Error> {
        let mut stored = Vec::new();
        if let Some((_, pull)) = &mut self.consumer
            && !take(pull, self.after, deadline, &mut stored).await
        {
            debug!(partition = %self.partition, after = self.after, "a scan goes on by direct gets");
            self.forget().await;
        }
        if stored.is_empty() {
            stored = self
                .log
                .read(self.partition, self.after + 1, deadline)
                .await?;
        }
        if let Some(last) = stored.last() {
            self.after = last.sequence;
        }
        Ok(stored)
    }

    /// Takes the consumer off the broker at once.
    pub async fn close(mut self) {
        self.forget().await;
    }

    async fn forget(&mut self) {
        let Some((name, _pull)) = self.consumer.take() else {
            return;
        };
        let (js, stream) = (self.log.jetstream(), streams::name(self.partition));
        if let Err(error) = js.delete_consumer_from_stream(&name, &stream).await {
            debug!(%error, "the broker forgets the consumer of a scan by itself");
        }
    }
}

async fn open(
    log: &Log,
    partition: Partition,
    from: u64,
) -> Result<(String, Pull), async_nats::Error> {
    let stream = streams::name(partition);
    let config = pull::Config {
        description: Some("reads a stretch once, for a rebuild".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: from,
        },
        ack_policy: AckPolicy::None,
        inactive_threshold: FORGET_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let js = log.jetstream();
    let made = js.create_consumer_on_stream(config, &stream).await?;
    let name = made.cached_info().name.clone();
    let both = (js.clone(), log.client().clone());
    let pull = Pull::open(both, (&stream, &name), Pace::AtOnce).await?;
    Ok((name, pull))
}

/// Takes what comes while it is what comes next. `false` when the consumer is of no use any more.
async fn take(
    pull: &mut Pull,
    mut after: u64,
    deadline: Instant,
    stored: &mut Vec<Stored>,
) -> bool {
    let until = deadline.min(Instant::now() + SILENCE);
    while stored.len() < CHUNK {
        let Ok(Ok(message)) = timeout_at(until, pull.next()).await else {
            return false;
        };
        let Ok(info) = message.info() else {
            return false;
        };
        if info.stream_sequence != after + 1 {
            return false;
        }
        after = info.stream_sequence;
        let (stored_at_ns, pending) = (info.published.unix_timestamp_nanos(), info.pending);
        let message = message.message;
        stored.push(Stored {
            subject: message.subject.to_string(),
            sequence: after,
            stored_at_ns,
            headers: message.headers.unwrap_or_default(),
            payload: message.payload,
        });
        if pending == 0 {
            break;
        }
    }
    true
}
