//! Asking a durable for messages, in such a way that many cost little and one comes at once.
//!
//! While little happens a request is open on the broker, and whatever comes is delivered at once. While much happens, each
//! message delivered by itself would cost the broker, the connection and whoever folds more than the message is worth: then
//! the reader pauses for a moment, asks for one message, hears with it how many stand behind it, and asks for all of those.
//! What is read is the same either way; only when differs, by [`PAUSE`] at most.
//!
//! Readers pause until the same moments, so that what the feeds of one process bring comes together.
//!
//! Source: docs/adr/0019-reading-in-batches.md.

use std::sync::OnceLock;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, Subject, Subscriber};
use futures::StreamExt;
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a request stays open on the broker.
const EXPIRY: Duration = Duration::from_secs(5);
/// How often the broker shows that an open request is alive; twice as long without a sign is trouble.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Messages asked for at a time, while they stand there.
const BATCH: u64 = 500;
/// Messages that an open request delivers as they come, before it is looked at how many those are.
const OPEN: u64 = 32;
/// The longest pause.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// How soon messages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each at once, whatever it costs.
    AtOnce,
    /// At once, until there are 400 a second on the stream: for whoever passes them on to somebody who waits.
    Soon,
    /// Together, from 50 a second on: for whoever makes a transaction of what comes together.
    Together,
}

impl Pace {
    /// From so many messages a second on, a pause is worth it.
    const fn pause_from(self) -> f64 {
        match self {
            Self::AtOnce => f64::INFINITY,
            Self::Soon => 400.0,
            Self::Together => 50.0,
        }
    }
}

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

/// Pulls from one durable.
pub(super) struct Pull {
    jetstream: jetstream::Context,
    client: Client,
    next: Subject,
    inbox: Subject,
    subscription: Subscriber,
    pace: Pace,
    /// How many messages the open request still brings; 0 when there is none.
    asked: u64,
    /// How many the broker had behind the last one.
    pending: u64,
    heard_at: Instant,
    pause_until: Option<Instant>,
    flow: Flow,
}

impl Pull {
    /// # Errors
    /// The subscription could not be made.
    pub async fn open(
        (jetstream, client): (jetstream::Context, Client),
        (stream, durable): (&str, &str),
        pace: Pace,
    ) -> Result<Self, async_nats::SubscribeError> {
        let inbox: Subject = client.new_inbox().into();
        let subscription = client.subscribe(inbox.clone()).await?;
        Ok(Self {
            jetstream,
            client,
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}").into(),
            inbox,
            subscription,
            pace,
            asked: 0,
            pending: 0,
            heard_at: Instant::now(),
            pause_until: None,
            flow: Flow::new(Instant::now()),
        })
    }

    /// The next message. Safe to cancel.
    ///
    /// # Errors
    /// Nothing comes any more.
    pub async fn next(&mut self) -> Result<jetstream::Message, Disturbed> {
        loop {
            if self.asked == 0 {
                if let Some(until) = self.pause_until {
                    sleep_until(until).await;
                    self.pause_until = None;
                }
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
            0 if self.flow.is_worth_a_pause(self.pace) => 1,
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

    fn delivered(&mut self, message: async_nats::Message) -> Result<jetstream::Message, Disturbed> {
        let context = self.jetstream.clone();
        let message = jetstream::Message { message, context };
        let info = message.info().map_err(|_| Disturbed::NoPlace)?;
        self.pending = info.pending;
        self.asked = self.asked.saturating_sub(1);
        self.flow.one_more();
        if self.asked == 0 && self.pending == 0 {
            self.flow.ended(self.heard_at);
            let rest = self.flow.is_worth_a_pause(self.pace);
            self.pause_until = rest.then(|| next_moment(self.heard_at));
        }
        Ok(message)
    }
}

/// The next of the moments that all readers of this process share.
fn next_moment(now: Instant) -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(|| now);
    let since = now.saturating_duration_since(began);
    let pauses = since.as_nanos() / PAUSE.as_nanos() + 1;
    began + PAUSE * u32::try_from(pauses).unwrap_or(u32::MAX)
}

/// How many messages come, lately.
#[derive(Debug)]
struct Flow {
    since: Instant,
    messages: u32,
    per_second: f64,
}

impl Flow {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            messages: 0,
            per_second: 0.0,
        }
    }

    fn one_more(&mut self) {
        self.messages += 1;
    }

    /// Everything that was asked for is here, and nothing stands behind it.
    fn ended(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        // A few that happen to come together are no flow: what counts is how long it took since the last time.
        let lately = f64::from(self.messages) / seconds.max(PAUSE.as_secs_f64());
        self.per_second = f64::midpoint(self.per_second, lately);
        (self.since, self.messages) = (now, 0);
    }

    fn is_worth_a_pause(&self, pace: Pace) -> bool {
        self.per_second >= pace.pause_from()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_for_many_and_not_for_one_or_for_a_few_together() {
        let mut now = Instant::now();
        let mut flow = Flow::new(now);
        let mut come = |flow: &mut Flow, messages: u32, within: Duration| {
            (0..messages).for_each(|_| flow.one_more());
            now += within;
            flow.ended(now);
        };
        let pauses = |flow: &Flow| {
            [Pace::AtOnce, Pace::Soon, Pace::Together].map(|pace| flow.is_worth_a_pause(pace))
        };
        come(&mut flow, 1, Duration::from_secs(5));
        assert_eq!(pauses(&flow), [false; 3]);
        come(&mut flow, 10, Duration::from_secs(1));
        assert_eq!(pauses(&flow), [false; 3]);
        for _ in 0..5 {
            come(&mut flow, 32, Duration::from_millis(250));
        }
        assert_eq!(pauses(&flow), [false, false, true]);
        for _ in 0..5 {
            come(&mut flow, 32, Duration::from_millis(50));
        }
        assert_eq!(pauses(&flow), [false, true, true]);
        for _ in 0..10 {
            come(&mut flow, 1, Duration::from_millis(100));
        }
        assert_eq!(pauses(&flow), [false; 3]);
    }

    #[test]
    fn pauses_end_at_moments_that_all_share() {
        let now = Instant::now();
        let first = next_moment(now);
        assert!(first > now && first <= now + PAUSE);
        assert_eq!(next_moment(first), first + PAUSE);
        assert_eq!(next_moment(first + PAUSE / 3), first + PAUSE);
    }
}
