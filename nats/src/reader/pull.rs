//! Pulling from a durable: what comes one by one is delivered as it comes, what stands there already is asked for together.
//!
//! A request is always open on the broker. Each message says how many stand behind it, and the next request is for all of those.
//!
//! Source: docs/adr/0019-reading-in-batches.md.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, Subject, Subscriber};
use futures::StreamExt;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

/// How long a request stays open on the broker.
const EXPIRY: Duration = Duration::from_secs(5);
/// How often the broker shows that an open request is alive; twice as long without a sign is trouble.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Messages asked for at a time, while they stand there.
const BATCH: u64 = 500;
/// Messages that an open request delivers as they come, while none stand there.
const OPEN: u64 = 32;

/// Why nothing comes any more: whoever pulls begins anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum Disturbed {
    #[error("the broker gave no sign of life")]
    Silent,
    #[error("the subscription has ended")]
    Closed,
    #[error("the broker ended the request with status {0}")]
    Status(u16),
    #[error("the request was not sent")]
    NotSent(#[from] async_nats::PublishError),
    #[error("a message without a place was offered")]
    NoPlace,
}

/// A request for messages, as the broker reads it. Times are nanoseconds.
#[derive(Serialize)]
struct Request {
    batch: u64,
    expires: u128,
    idle_heartbeat: u128,
}

/// A message with its place on the stream.
pub(super) struct Offered {
    pub message: async_nats::Message,
    pub sequence: u64,
    pub stored_at_ns: i128,
    /// How many stood behind it when it was sent.
    pub pending: u64,
}

/// Pulls from one durable.
pub(super) struct Pull {
    jetstream: jetstream::Context,
    client: Client,
    next: Subject,
    inbox: Subject,
    subscription: Subscriber,
    /// How many messages the open request still brings; 0 when there is none.
    asked: u64,
    /// How many the broker had behind the last one.
    pending: u64,
    heard_at: Instant,
}

impl Pull {
    /// # Errors
    /// The subscription could not be made.
    pub async fn open(
        (jetstream, client): (jetstream::Context, Client),
        (stream, durable): (&str, &str),
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox: Subject = client.new_inbox().into();
        let subscription = client.subscribe(inbox.clone()).await?;
        Ok(Self {
            jetstream,
            client,
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}").into(),
            inbox,
            subscription,
            asked: 0,
            pending: 0,
            heard_at: Instant::now(),
        })
    }

    /// The next message. Safe to cancel.
    ///
    /// # Errors
    /// Nothing comes any more.
    pub async fn next(&mut self) -> Result<Offered, Disturbed> {
        loop {
            if self.asked == 0 {
                self.ask().await?;
            }
            let silent_at = self.heard_at + HEARTBEAT * 2;
            let Ok(arrived) = timeout_at(silent_at, self.subscription.next()).await else {
                return Err(Disturbed::Silent);
            };
            let message = arrived.ok_or(Disturbed::Closed)?;
            self.heard_at = Instant::now();
            match message.status.map(|status| status.as_u16()) {
                None => return self.delivered(message),
                Some(100) => {}
                // There was nothing, or no more, within its time.
                Some(404 | 408) => self.asked = 0,
                Some(status) => return Err(Disturbed::Status(status)),
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Disturbed> {
        let batch = match self.pending {
            0 => OPEN,
            pending => pending.min(BATCH),
        };
        let request = Request {
            batch,
            expires: EXPIRY.as_nanos(),
            idle_heartbeat: HEARTBEAT.as_nanos(),
        };
        let request = serde_json::to_vec(&request).expect("numbers");
        let (next, inbox) = (self.next.clone(), self.inbox.clone());
        self.client
            .publish_with_reply(next, inbox, request.into())
            .await?;
        self.asked = batch;
        self.heard_at = Instant::now();
        Ok(())
    }

    fn delivered(&mut self, message: async_nats::Message) -> Result<Offered, Disturbed> {
        let context = self.jetstream.clone();
        let message = jetstream::Message { message, context };
        let info = message.info().map_err(|_| Disturbed::NoPlace)?;
        let (sequence, pending) = (info.stream_sequence, info.pending);
        let stored_at_ns = info.published.unix_timestamp_nanos();
        self.pending = pending;
        self.asked = self.asked.saturating_sub(1);
        Ok(Offered {
            message: message.message,
            sequence,
            stored_at_ns,
            pending,
        })
    }
}
