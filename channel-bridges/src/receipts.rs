//! Receipts and the references they need.
//!
//! A receipt finds its delivery through `PROVIDER_REFS`. It may come before the reference is stored: then it is put into
//! `PARKED` and *then* the reference is looked for once more. Whoever stores a reference looks into `PARKED` *then*. Both read
//! from the leader, so one of the two always sees the other; when both do, the aggregate refuses the second.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::RawMessageErrorKind;
use chat4all_domain::delivery::{self, Command, Receipt, SentPersonal, Step};
use chat4all_domain::{AccountId, ChannelKind, Delivery, Timestamp};
use chat4all_nats::execute::{Assume, Context, Purpose, Retry};
use chat4all_nats::{Log, Store, execute, parked, streams};
use chat4all_service::Chain;
use moka::sync::Cache;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::bucket::{self, Bucket};
use crate::channel::{self, Report};
use crate::clock;
use crate::config::Account;
use crate::metrics::Metrics;
use crate::reference::{self, Reference};

/// How long one try to record something may take.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// References that are remembered by a process, at most; about 200 bytes each. Receipts come within seconds of their call.
const KNOWN: u64 = 50_000;
/// Header of a stored webhook call, as of a parked item: the account it came through.
pub const ACCOUNT: &str = parked::ACCOUNT;

/// Why a receipt is put aside.
pub const UNKNOWN_MESSAGE: &str = "unknown_message";

/// Records receipts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Receipts {
    log: Log,
    deliveries: Store<Delivery>,
    references: Bucket,
    /// What was stored or found lately, by key. A provider's id leads to one attempt for ever, so what is here is true; what is
    /// not here is asked of the leader.
    known: Cache<String, Reference>,
    metrics: Metrics,
}

/// Why a receipt or a reference could not be dealt with now.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bucket of references did not answer.
    #[error("the references are out of reach")]
    References(#[source] bucket::Error),
    /// The stream of parked items did not answer.
    #[error("the parked items are out of reach")]
    Parked(#[source] async_nats::Error),
    /// The log did not take it.
    #[error("failed to record a receipt")]
    Record(#[source] execute::Error<delivery::Rejection>),
}

/// What became of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is on the log, or was no news.
    Recorded,
    /// Nobody knows the message yet.
    Parked,
}

impl Receipts {
    /// Over `log`.
    pub fn new(log: Log, deliveries: Store<Delivery>, metrics: Metrics) -> Self {
        Self {
            references: Bucket::new(log.clone(), streams::PROVIDER_REFS),
            known: Cache::new(KNOWN),
            log,
            deliveries,
            metrics,
        }
    }

    /// Stores where a provider's id leads. Then call [`Receipts::collect`].
    ///
    /// # Errors
    /// [`Error::References`].
    pub async fn remember(
        &self,
        (kind, account): (ChannelKind, &AccountId),
        provider_id: &str,
        reference: Reference,
    ) -> Result<(), Error> {
        let key = reference::key(kind, account, provider_id);
        let value = reference.to_string();
        let stored = self.references.put(&key, value.into()).await;
        stored.map_err(Error::References)?;
        self.known.insert(key, reference);
        Ok(())
    }

    /// Where a provider's id leads, if anybody knows.
    ///
    /// # Errors
    /// [`Error::References`].
    pub async fn look_up(
        &self,
        (kind, account): (ChannelKind, &AccountId),
        provider_id: &str,
    ) -> Result<Option<Reference>, Error> {
        let key = reference::key(kind, account, provider_id);
        if let Some(reference) = self.known.get(&key) {
            return Ok(Some(reference));
        }
        let value = self.references.last(&key).await;
        let value = value.map_err(Error::References)?;
        let found: Option<Reference> =
            value.and_then(|value| std::str::from_utf8(&value.bytes).ok()?.parse().ok());
        if let Some(reference) = found {
            self.known.insert(key, reference);
        }
        Ok(found)
    }

    /// Records what `report` says about the message it is for, or puts it aside. Whoever may have begun with it before may have
    /// put it aside, too: that copy is dealt with.
    ///
    /// # Errors
    /// [`Error`]: try again later.
    pub async fn place(
        &self,
        (kind, account, settings): (ChannelKind, &AccountId, &Account),
        (report, begun): (&Report, bool),
        raw: &str,
        traceparent: Option<&str>,
    ) -> Result<Placed, Error> {
        let known = self.place_known((kind, account, settings), report, traceparent);
        if known.await? == Placed::Recorded {
            if begun {
                self.collect((kind, account, settings), &report.provider_id)
                    .await?;
            }
            return Ok(Placed::Recorded);
        }
        let subject = parked_receipt(kind, account, &report.provider_id);
        self.park(kind, account, subject, UNKNOWN_MESSAGE, raw)
            .await?;
        match self.look_up((kind, account), &report.provider_id).await? {
            Some(reference) => {
                self.record(kind, reference, report, traceparent).await?;
                self.collect((kind, account, settings), &report.provider_id)
                    .await?;
                Ok(Placed::Recorded)
            }
            None => Ok(Placed::Parked),
        }
    }

    /// Records what `report`, which was put aside, says; [`Placed::Parked`] when its message is still unknown, and then it
    /// stays where it is.
    ///
    /// # Errors
    /// [`Error`]: try again later.
    pub async fn place_again(
        &self,
        whose: (ChannelKind, &AccountId, &Account),
        report: &Report,
    ) -> Result<Placed, Error> {
        self.place_known(whose, report, None).await
    }

    async fn place_known(
        &self,
        (kind, account, settings): (ChannelKind, &AccountId, &Account),
        report: &Report,
        traceparent: Option<&str>,
    ) -> Result<Placed, Error> {
        let echoed = report.echoed.filter(|_| settings.echoes());
        if let Some(reference) = self.look_up((kind, account), &report.provider_id).await? {
            self.record(kind, reference, report, traceparent).await?;
            return Ok(Placed::Recorded);
        }
        if let Some(reference) = echoed {
            // The call's answer is not known here, but the receipt itself says which attempt it is for.
            self.remember((kind, account), &report.provider_id, reference)
                .await?;
            self.record(kind, reference, report, traceparent).await?;
            return Ok(Placed::Recorded);
        }
        Ok(Placed::Parked)
    }

    /// Deals with the receipts that came before `provider_id` was known.
    ///
    /// # Errors
    /// [`Error`]: try again later.
    pub async fn collect(
        &self,
        (kind, account, settings): (ChannelKind, &AccountId, &Account),
        provider_id: &str,
    ) -> Result<(), Error> {
        let subject = parked_receipt(kind, account, provider_id);
        let stream = self
            .log
            .jetstream()
            .get_stream_no_info(streams::PARKED)
            .await
            .map_err(|error| Error::Parked(error.into()))?;
        let mut from = 1;
        loop {
            let next = stream.raw_message_builder().sequence(from);
            let parked = match next.next_by_subject(subject.as_str()).send().await {
                Ok(parked) => parked,
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return Ok(()),
                Err(error) => return Err(Error::Parked(error.into())),
            };
            let Some(reference) = self.look_up((kind, account), provider_id).await? else {
                return Ok(());
            };
            let raw = String::from_utf8_lossy(&parked.payload);
            match channel::read_receipt(settings, &raw) {
                Ok(report) => self.record(kind, reference, &report, None).await?,
                Err(error) => {
                    warn!(%error, sequence = parked.sequence, "a parked receipt cannot be read")
                }
            }
            if let Err(error) = stream.delete_message(parked.sequence).await {
                debug!(error = %Chain(&error), sequence = parked.sequence, "a parked receipt was gone already");
            }
            from = parked.sequence + 1;
        }
    }

    /// Puts an item aside for somebody to look at.
    ///
    /// # Errors
    /// [`Error::Parked`].
    pub async fn park_item(
        &self,
        kind: ChannelKind,
        account: &AccountId,
        why: &'static str,
        raw: &str,
    ) -> Result<(), Error> {
        let subject = parked::item_subject(kind, account);
        warn!(channel = %kind, account = %account, why, "put an inbound item of `{account}` aside: {why}");
        self.park(kind, account, subject, why, raw).await
    }

    async fn park(
        &self,
        kind: ChannelKind,
        account: &AccountId,
        subject: String,
        why: &'static str,
        raw: &str,
    ) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(parked::REASON, why);
        headers.insert(ACCOUNT, account.as_str());
        let payload = raw.to_owned().into_bytes().into();
        let sent = self
            .log
            .jetstream()
            .publish_with_headers(subject, headers, payload)
            .await;
        match sent {
            Ok(ack) => ack.await.map(drop),
            Err(error) => Err(error),
        }
        .map_err(|error| Error::Parked(error.into()))?;
        self.metrics.parked(kind, why);
        Ok(())
    }

    async fn record(
        &self,
        kind: ChannelKind,
        reference: Reference,
        report: &Report,
        traceparent: Option<&str>,
    ) -> Result<(), Error> {
        let Some(step) = &report.step else {
            return Ok(());
        };
        let command = command(reference, report, step);
        let context = context(traceparent);
        match self
            .deliveries
            .execute(&reference.delivery(kind), command, context)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Record(error)),
        }
    }
}

/// `sent` brings the provider's id along, so that the reference can be rebuilt from the log.
fn command(reference: Reference, report: &Report, step: &Step) -> Command {
    let Reference { n, attempt, .. } = reference;
    let (op, at): (_, Timestamp) = (crate::outbound::SEND, report.at);
    match step {
        Step::Sent => Command::RecordSent {
            n,
            op,
            attempt,
            parts: SentPersonal {
                parts: vec![report.provider_id.clone()],
            },
            at,
        },
        Step::Delivered | Step::Read | Step::Failed { .. } => Command::RecordReceipt(Receipt {
            n,
            op,
            attempt,
            step: step.clone(),
            at,
        }),
    }
}

/// Says what became of something: fits until the log is full, and puts up with every lost race.
pub fn context(traceparent: Option<&str>) -> Context {
    Context {
        now: clock::now(),
        deadline: Instant::now() + DEADLINE,
        retry: Retry::UntilDeadline,
        traceparent: traceparent.map(str::to_owned),
        purpose: Purpose::Outcome,
        assume: Assume::Nothing,
    }
}

fn parked_receipt(kind: ChannelKind, account: &AccountId, provider_id: &str) -> String {
    parked::receipt_subject(kind, account, &reference::shortened(provider_id))
}
