//! What the provider tells the business: statuses and inbound messages, as signed calls to its webhook.
//!
//! An item is put into one of its account's lanes by the customer's number, with the time it is due. A lane sends what
//! is due in that order, one call at a time, several items in one call if they are due together. An item whose call was
//! not answered with 200 goes back into the lane for later and holds up nobody: after a failure the order is not kept,
//! as with the provider. Delivery is at least once; waiting items are in memory only and end with the process.

mod lane;
mod log;
mod payload;
mod subscribe;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU32, Ordering};

use serde::{Serialize, Serializer, ser::SerializeStruct};
use tokio::sync::Notify;

pub(crate) use lane::{Lanes, start_lanes};
use log::Counters;
pub(crate) use log::Log;
pub(crate) use subscribe::{subscribe, subscribe_until_active};

use crate::clock::UnixMs;
use crate::phone::{Message, Step};

/// What an item tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// The customer has written.
    Message,
    /// A message has come that far.
    Status {
        step: Step,
        /// When it did; the webhook may come at another time.
        at: UnixMs,
        /// Why it failed.
        error: Option<u32>,
        /// It happens on the phone, but nobody is told.
        unreported: bool,
    },
}

impl What {
    /// A status without an error.
    pub(crate) const fn status(step: Step, at: UnixMs, unreported: bool) -> Self {
        Self::Status {
            step,
            at,
            error: None,
            unreported,
        }
    }
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Waits for its time or its next attempt.
    Pending = 0,
    /// Answered with 200.
    Delivered = 1,
    /// Too old to be tried again.
    GivenUp = 2,
    /// Left out by a fault.
    Unreported = 3,
    /// The account has no webhook.
    Unsubscribed = 4,
    /// The queue was full.
    Dropped = 5,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Pending,
        Self::Delivered,
        Self::GivenUp,
        Self::Unreported,
        Self::Unsubscribed,
        Self::Dropped,
    ];
}

/// One item and what has become of it. Written by its lane, read by anybody.
pub(crate) struct Item {
    pub(crate) seq: u64,
    pub(crate) message: Arc<Message>,
    pub(crate) what: What,
    created: UnixMs,
    attempts: AtomicU32,
    /// Status of the last answer; 0: there was none.
    last_status: AtomicU16,
    last_attempt: AtomicI64,
    state: AtomicU8,
    counters: Arc<Counters>,
    /// Told once, after the first attempt or when there will be none.
    tried: Notify,
}

impl Item {
    pub(crate) fn state(&self) -> State {
        let state = self.state.load(Ordering::Relaxed);
        State::ALL
            .into_iter()
            .find(|known| *known as u8 == state)
            .unwrap_or(State::Pending)
    }
    /// Waits until the item has been tried once.
    pub(crate) async fn tried(&self) {
        self.tried.notified().await;
    }
    fn end(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.counters.ended(state);
        self.tried.notify_one();
    }
    /// Counts an attempt; `status` is None when no answer came. Returns how many there were.
    fn attempted(&self, status: Option<u16>, at: UnixMs) -> u32 {
        self.last_status
            .store(status.unwrap_or(0), Ordering::Relaxed);
        self.last_attempt.store(at.0, Ordering::Relaxed);
        self.tried.notify_one();
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let last_status = self.last_status.load(Ordering::Relaxed);
        let (kind, step, error) = match self.what {
            What::Message => ("message", None, None),
            What::Status { step, error, .. } => ("status", Some(step), error),
        };
        let mut out = serializer.serialize_struct("Webhook", 12)?;
        out.serialize_field("seq", &self.seq)?;
        out.serialize_field("phone_number_id", &*self.message.phone_number_id)?;
        out.serialize_field("to", &*self.message.number)?;
        out.serialize_field("message_id", &self.message.wamid)?;
        out.serialize_field("kind", kind)?;
        out.serialize_field("status", &step)?;
        out.serialize_field("error_code", &error)?;
        out.serialize_field("created_at", &self.created)?;
        out.serialize_field("state", &self.state())?;
        out.serialize_field("attempts", &attempts)?;
        out.serialize_field(
            "last_http_status",
            &(last_status > 0).then_some(last_status),
        )?;
        let at = UnixMs(self.last_attempt.load(Ordering::Relaxed));
        out.serialize_field("last_attempt_at", &(attempts > 0).then_some(at))?;
        out.end()
    }
}
