//! `Delivery` and what happened to it.

use async_graphql::{Context, ID, Object, Result};
use chat4all_domain::{Partition, Position};
use chat4all_postgres::read::deliveries;

use super::error::error;
use super::participant::Participant;
use super::scalar::{Moment, Place};
use super::words::{ChannelKind, DeliveryStatus, FailureClass, FailureReason};
use crate::session::Session;
use crate::status;

/// A message on its way to one outside recipient. One time per step; a step that nobody told us about stays null.
#[derive(Clone)]
pub struct Delivery(pub deliveries::Delivery);

/// A message on its way to one outside recipient. One time per step; a step that nobody told us about stays null.
#[Object]
impl Delivery {
    /// Its number within the message, from 0.
    async fn number(&self) -> u16 {
        self.0.n
    }
    /// Who is to get it.
    async fn participant(&self, ctx: &Context<'_>) -> Result<Option<Participant>> {
        let session = ctx.data_unchecked::<Session>();
        let found = session.participant((self.0.message.0, self.0.participant));
        let participant = found.await.map_err(|p| error(&p))?;
        Ok(participant.map(|found| Participant(found.as_ref().clone())))
    }
    /// The kind of its channel.
    async fn channel_kind(&self) -> ChannelKind {
        self.0.kind.into()
    }
    /// The account it goes out through.
    async fn channel(&self) -> &str {
        self.0.account.as_str()
    }
    /// The address it goes to.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_ref().map(|address| address.reveal())
    }
    /// How far it has come.
    async fn status(&self) -> DeliveryStatus {
        self.0.status.into()
    }
    /// The furthest that its channel reports: what stands there will not move on.
    async fn highest_status(&self) -> DeliveryStatus {
        status::highest(self.0.kind).into()
    }
    /// How often it was redriven. The steps are those of the last time.
    async fn generation(&self) -> u32 {
        self.0.generation
    }
    /// How many attempts were made, redrives included.
    async fn attempts(&self) -> u32 {
        self.0.attempts
    }
    /// When the last attempt was made.
    async fn attempted_at(&self) -> Option<Moment> {
        self.0.attempted_at.map(Moment)
    }
    /// When the provider took it.
    async fn sent_at(&self) -> Option<Moment> {
        self.0.sent_at.map(Moment)
    }
    /// When it arrived.
    async fn delivered_at(&self) -> Option<Moment> {
        self.0.delivered_at.map(Moment)
    }
    /// When it was seen.
    async fn read_at(&self) -> Option<Moment> {
        self.0.read_at.map(Moment)
    }
    /// When it failed; null unless it did.
    async fn failed_at(&self) -> Option<Moment> {
        self.0.failed.as_ref().map(|failed| Moment(failed.at))
    }
    /// What kind of failure it is, of a delivery that failed or that waits after one.
    async fn failure_class(&self) -> Option<FailureClass> {
        let failed = self.0.failed.as_ref().map(|failed| failed.class);
        let waiting = self.0.waiting.as_ref().map(|waiting| waiting.class);
        failed.or(waiting).map(FailureClass::from)
    }
    /// Why it failed or waits.
    async fn failure_reason(&self) -> Option<FailureReason> {
        let failed = self.0.failed.as_ref().map(|failed| failed.reason);
        let waiting = self.0.waiting.as_ref().map(|waiting| waiting.reason);
        failed.or(waiting).map(FailureReason::from)
    }
    /// The provider's error code, if that is why it failed.
    async fn provider_code(&self) -> Option<&str> {
        self.0.failed.as_ref()?.provider_code.as_deref()
    }
    /// The next attempt is not before this moment; null unless it waits.
    async fn waiting_until(&self) -> Option<Moment> {
        self.0.waiting.as_ref().map(|waiting| Moment(waiting.until))
    }
    /// What happened to it, in order.
    #[graphql(complexity = "5 + child_complexity")]
    async fn history(&self, ctx: &Context<'_>) -> Result<Vec<DeliveryEvent>> {
        let session = ctx.data_unchecked::<Session>();
        let history = session
            .history(self.0.message)
            .await
            .map_err(|p| error(&p))?;
        Ok(history
            .iter()
            .filter(|happened| happened.n == self.0.n)
            .map(|happened| DeliveryEvent(happened.clone(), self.0.partition))
            .collect())
    }
}

/// One thing that happened to a delivery.
pub struct DeliveryEvent(pub deliveries::Happened, pub Partition);

/// One thing that happened to a delivery.
#[Object]
impl DeliveryEvent {
    /// The delivery's number within the message.
    async fn number(&self) -> u16 {
        self.0.n
    }
    /// What happened: `DeliveryAttempted`, `DeliverySent`, `DeliveryDelivered`, `DeliveryRead`, `DeliveryFailed`,
    /// `DeliveryDeferred`, `DeliveryRedriven`.
    #[graphql(name = "type")]
    async fn event(&self) -> &str {
        &self.0.event
    }
    /// Where it stands in the log.
    async fn position(&self) -> Place {
        Place(Position::new(self.1, self.0.sequence))
    }
    /// The attempt it is about; null for a redrive.
    async fn attempt(&self) -> Option<u32> {
        self.0.attempt
    }
    /// When, by the clock of whoever noticed.
    async fn occurred_at(&self) -> Moment {
        Moment(self.0.occurred_at)
    }
    /// When it was recorded, by ours.
    async fn recorded_at(&self) -> Moment {
        Moment(self.0.recorded_at)
    }
    /// Of a failure or a wait: what kind.
    async fn failure_class(&self) -> Option<FailureClass> {
        self.0.details.class.map(FailureClass::from)
    }
    /// Of a failure or a wait: why.
    async fn failure_reason(&self) -> Option<FailureReason> {
        self.0.details.reason.map(FailureReason::from)
    }
    /// Of a failure: the provider's error code.
    async fn provider_code(&self) -> Option<&str> {
        self.0.details.provider_code.as_deref()
    }
    /// Of a wait: the next attempt is not before this moment.
    async fn waiting_until(&self) -> Option<Moment> {
        self.0.details.until.map(Moment)
    }
    /// Of a redrive: which generation it opened.
    async fn generation(&self) -> Option<u32> {
        self.0.details.generation
    }
    /// Of a redrive: the user who asked for it.
    async fn by_user_id(&self) -> Option<ID> {
        self.0.details.by.map(|user| ID(user.to_string()))
    }
}
