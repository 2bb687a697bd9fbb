//! One dead letter as it is shown: no text, no address, nothing in a provider's words.

use std::fmt;

use chat4all_channel_bridges::channel::class_name;
use chat4all_channel_bridges::redrive::Item;
use chat4all_domain::{ConversationId, MessageId, ParticipantId, Position, Timestamp};
use chat4all_nats::parked;
use chat4all_postgres::read::failed_deliveries::FailedDelivery;
use chat4all_postgres::read::poison_events::PoisonEvent;
use serde::Serialize;

use super::filter::Kind;
use super::id::Id;

/// One dead letter. What a kind does not have is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Letter {
    /// Names it.
    pub id: Id,
    /// What it is.
    pub kind: Kind,
    /// When it failed, was put aside, or was stored.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<ParticipantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempted_at: Option<Timestamp>,
    /// Where it stands on the log: of a delivery its last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_types: Option<String>,
    /// What was parked: an item, or a receipt of a message that nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
    /// How it is tried again; a poison event cannot be.
    #[serde(skip)]
    pub item: Option<Item>,
}

impl Letter {
    fn new(id: Id, at: Timestamp, reason: String) -> Self {
        Self {
            id,
            kind: id.kind(),
            at,
            reason,
            account: None,
            conversation: None,
            message: None,
            number: None,
            participant: None,
            failure_class: None,
            provider_code: None,
            generation: None,
            attempts: None,
            attempted_at: None,
            position: None,
            subject: None,
            event_types: None,
            what: None,
            size_bytes: None,
            item: None,
        }
    }

    /// Whether that is why: of a delivery the reason or the provider's code, of others a part of the reason.
    pub fn has_reason(&self, wanted: &str) -> bool {
        let wanted = wanted.to_lowercase();
        let reason = self.reason.to_lowercase();
        match self.kind {
            Kind::FailedDelivery => {
                let code = self.provider_code.as_deref().map(str::to_lowercase);
                reason == wanted || code.is_some_and(|code| code == wanted)
            }
            Kind::Parked | Kind::Poison => reason.contains(&wanted),
        }
    }
}

impl From<FailedDelivery> for Letter {
    fn from(delivery: FailedDelivery) -> Self {
        let (conversation, message, n) = delivery.key;
        let reason = serde_json::to_value(delivery.failed.reason);
        let reason = reason
            .ok()
            .and_then(|word| word.as_str().map(str::to_owned));
        Self {
            account: Some(delivery.account.to_string()),
            conversation: Some(conversation),
            message: Some(message),
            number: Some(n),
            participant: Some(delivery.participant),
            failure_class: Some(class_name(delivery.failed.class)),
            provider_code: delivery.failed.provider_code,
            generation: Some(delivery.generation),
            attempts: Some(delivery.attempts),
            attempted_at: delivery.attempted_at,
            position: Some(delivery.position),
            item: Some(Item::FailedDelivery {
                conversation,
                message,
                n,
                channel: delivery.kind,
                generation: delivery.generation,
            }),
            ..Self::new(
                Id::FailedDelivery(conversation, message, n),
                delivery.failed.at,
                reason.unwrap_or_else(|| "UNKNOWN".to_owned()),
            )
        }
    }
}

impl From<parked::Item> for Letter {
    fn from(item: parked::Item) -> Self {
        let sequence = item.sequence;
        Self {
            account: item.account.map(|account| account.to_string()),
            what: Some(match item.what {
                parked::What::Item => "item",
                parked::What::Receipt { .. } => "receipt",
            }),
            size_bytes: Some(item.size_bytes),
            item: Some(Item::ParkedInbound { sequence }),
            ..Self::new(Id::ParkedInbound(sequence), item.parked_at, item.reason)
        }
    }
}

impl From<PoisonEvent> for Letter {
    fn from(event: PoisonEvent) -> Self {
        Self {
            conversation: event.conversation,
            position: Some(event.position),
            subject: Some(event.subject),
            event_types: event.event_types,
            ..Self::new(
                Id::PoisonEvent(event.position),
                event.recorded_at,
                event.error,
            )
        }
    }
}

/// One line: when, what, why, which.
impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match &self.provider_code {
            Some(code) => format!("{} ({code})", self.reason),
            None => self.reason.clone(),
        };
        let (at, kind) = (self.at, self.kind.as_str());
        let account = self.account.as_deref().unwrap_or("-");
        write!(f, "{at}  {kind:<15}  {account:<16}  {why}  {}", self.id)
    }
}
