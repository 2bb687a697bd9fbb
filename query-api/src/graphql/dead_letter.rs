//! Dead letters: what somebody must look at. Nothing here holds a text, an address or what a provider sent.

use async_graphql::{Context, ID, Interface, Object, Result};
use chat4all_nats::parked::{Item, What};
use chat4all_postgres::read::{failed_deliveries, poison_events};

use super::error::error;
use super::global_id::GlobalId;
use super::message::Message;
use super::scalar::{Moment, Place};
use super::words::{ChannelKind, DeadLetterKind, FailureClass, FailureReason, ParkedWhat};
use crate::dead_letters;
use crate::session::Session;

/// What somebody must look at.
#[derive(Interface)]
#[graphql(
    field(name = "id", ty = "ID", desc = "Names it among all nodes."),
    field(
        name = "kind",
        ty = "DeadLetterKind",
        desc = "What kind of dead letter it is."
    ),
    field(name = "at", ty = "Moment", desc = "When it became one.")
)]
pub enum DeadLetter {
    PoisonEvent(PoisonEvent),
    ParkedInbound(ParkedInbound),
    FailedDelivery(FailedDelivery),
}

impl From<dead_letters::DeadLetter> for DeadLetter {
    fn from(letter: dead_letters::DeadLetter) -> Self {
        match letter {
            dead_letters::DeadLetter::PoisonEvent(event) => Self::PoisonEvent(PoisonEvent(event)),
            dead_letters::DeadLetter::ParkedInbound(item) => {
                Self::ParkedInbound(ParkedInbound(item))
            }
            dead_letters::DeadLetter::FailedDelivery(delivery) => {
                Self::FailedDelivery(FailedDelivery(delivery))
            }
        }
    }
}

/// A delivery that has failed. Redriven, or delivered after all, it is no dead letter any more.
pub struct FailedDelivery(pub failed_deliveries::FailedDelivery);

/// A delivery that has failed. Redriven, or delivered after all, it is no dead letter any more.
#[Object]
impl FailedDelivery {
    /// Names it among all nodes.
    pub async fn id(&self) -> ID {
        let (conversation, message, n) = self.0.key;
        GlobalId::FailedDelivery(conversation, message, n).into()
    }
    /// What kind of dead letter it is.
    pub async fn kind(&self) -> DeadLetterKind {
        DeadLetterKind::FailedDelivery
    }
    /// When it failed, by the clock of whoever noticed.
    pub async fn at(&self) -> Moment {
        Moment(self.0.failed.at)
    }
    /// The conversation's id in commands and in REST.
    async fn conversation_id(&self) -> ID {
        ID(self.0.key.0.to_string())
    }
    /// Names the message within its conversation, in commands and in REST.
    async fn message_id(&self) -> ID {
        ID(self.0.key.1.to_string())
    }
    /// The message, with the scope `conversations:read`, if it is yours to see.
    async fn message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        let (conversation, message, _) = self.0.key;
        let session = ctx.data_unchecked::<Session>();
        let found = session.message_of_dead_letter((conversation, message));
        Ok(found.await.map_err(|p| error(&p))?.map(Message))
    }
    /// Its number within the message, from 0.
    async fn number(&self) -> u16 {
        self.0.key.2
    }
    /// Who was to get it.
    async fn participant_id(&self) -> ID {
        ID(self.0.participant.to_string())
    }
    /// The kind of its channel.
    async fn channel_kind(&self) -> ChannelKind {
        self.0.kind.into()
    }
    /// The account it went out through.
    async fn channel(&self) -> &str {
        self.0.account.as_str()
    }
    /// What kind of failure it is.
    async fn failure_class(&self) -> FailureClass {
        self.0.failed.class.into()
    }
    /// Why it failed.
    async fn failure_reason(&self) -> FailureReason {
        self.0.failed.reason.into()
    }
    /// The provider's error code, if that is why.
    async fn provider_code(&self) -> Option<&str> {
        self.0.failed.provider_code.as_deref()
    }
    /// How often it was redriven.
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
    /// The last event about it.
    async fn position(&self) -> Place {
        Place(self.0.position)
    }
}

/// An event that the projector could not fold: rows may lack what it says. It stays in the log.
pub struct PoisonEvent(pub poison_events::PoisonEvent);

/// An event that the projector could not fold: rows may lack what it says. It stays in the log.
#[Object]
impl PoisonEvent {
    /// Names it among all nodes.
    pub async fn id(&self) -> ID {
        GlobalId::PoisonEvent(self.0.position).into()
    }
    /// What kind of dead letter it is.
    pub async fn kind(&self) -> DeadLetterKind {
        DeadLetterKind::PoisonEvent
    }
    /// When the log stored it.
    pub async fn at(&self) -> Moment {
        Moment(self.0.recorded_at)
    }
    /// Where it stands in the log: partition and sequence.
    async fn position(&self) -> Place {
        Place(self.0.position)
    }
    /// The partition it is in.
    async fn partition(&self) -> u8 {
        self.0.position.partition.number()
    }
    /// Its subject, which names what it is about.
    async fn subject(&self) -> &str {
        &self.0.subject
    }
    /// The types of event it says it holds; empty when it does not say.
    async fn event_types(&self) -> Vec<&str> {
        let types = self.0.event_types.as_deref().unwrap_or_default();
        types.split(',').filter(|name| !name.is_empty()).collect()
    }
    /// The conversation it is about, as its subject says; null when that names none.
    async fn conversation_id(&self) -> Option<ID> {
        self.0.conversation.map(|id| ID(id.to_string()))
    }
    /// What is wrong with it.
    async fn error(&self) -> &str {
        &self.0.error
    }
}

/// Something that came in and could not be understood, or placed. Kept for thirty days, or until it can be placed.
pub struct ParkedInbound(pub Item);

/// Something that came in and could not be understood, or placed. Kept for thirty days, or until it can be placed.
#[Object]
impl ParkedInbound {
    /// Names it among all nodes.
    pub async fn id(&self) -> ID {
        GlobalId::ParkedInbound(self.0.sequence).into()
    }
    /// What kind of dead letter it is.
    pub async fn kind(&self) -> DeadLetterKind {
        DeadLetterKind::ParkedInbound
    }
    /// When it was put aside.
    pub async fn at(&self) -> Moment {
        Moment(self.0.parked_at)
    }
    /// What was put aside.
    async fn what(&self) -> ParkedWhat {
        match self.0.what {
            What::Item => ParkedWhat::Item,
            What::Receipt { .. } => ParkedWhat::Receipt,
        }
    }
    /// Why, in our words.
    async fn reason(&self) -> &str {
        &self.0.reason
    }
    /// Its place on the stream `PARKED`, where the raw item is.
    async fn sequence(&self) -> u64 {
        self.0.sequence
    }
    /// The kind of channel it came through; null for one that this release does not know.
    async fn channel_kind(&self) -> Option<ChannelKind> {
        self.0.kind.map(ChannelKind::from)
    }
    /// The account it came through.
    async fn channel(&self) -> Option<&str> {
        self.0.account.as_ref().map(|account| account.as_str())
    }
    /// Of a receipt: the hash of the provider's id of the message it is about.
    async fn reference(&self) -> Option<&str> {
        match &self.0.what {
            What::Item => None,
            What::Receipt { reference } => Some(reference),
        }
    }
    /// How large the raw item is, in bytes.
    async fn size_bytes(&self) -> usize {
        self.0.size_bytes
    }
}
