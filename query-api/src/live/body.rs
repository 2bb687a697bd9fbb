//! What server-sent events and notifications say, field by field: the names of REST's bodies.

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use chat4all_domain::conversation::{Event as Conversed, Participant as Placed, Who};
use chat4all_domain::delivery::{FailureClass, Reason, Status};
use chat4all_domain::message::{Content, Origin};
use chat4all_domain::{
    AccountId, ConversationId, MessageId, ParticipantId, Position, Recorded, Timestamp, UserId,
    conversation, delivery, message, reader,
};
use chat4all_nats::Change;
use serde::Serialize;
use utoipa::ToSchema;

use super::entry::{Entry, What};
use crate::status;

/// What one event of the log said, about one conversation.
#[derive(Serialize, ToSchema)]
pub struct LiveUpdate {
    /// Where it stands in the log: `at_least` for reads that are to show it.
    #[schema(value_type = String, example = "07-1234")]
    position: Position,
    /// What happened, in order; appended together.
    events: Vec<LiveEvent>,
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LiveEvent {
    /// A message was accepted.
    NewMessage(Box<NewMessage>),
    /// Something happened to a delivery.
    Status(DeliveryStatus),
    /// A user has read further.
    Read(ReadFurther),
    /// The conversation was started.
    ConversationStarted(Started),
    /// Somebody joined.
    ParticipantJoined(Joined),
    /// Somebody left.
    ParticipantLeft(Left),
}

/// A message, as it was accepted.
#[derive(Serialize, ToSchema)]
pub struct NewMessage {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    message_id: MessageId,
    /// Its place: the order of the conversation, and its cursor.
    #[schema(value_type = String, example = "07-1234")]
    position: Position,
    /// The participant who wrote it.
    #[schema(value_type = uuid::Uuid)]
    author: ParticipantId,
    /// How it came to us: `api` or `channel`.
    origin: &'static str,
    /// The account that received it, when a channel did.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<AccountId>,
    /// `{"type":"text","text":"…"}` or `{"type":"unsupported","what":"sticker"}`.
    #[schema(value_type = Object)]
    content: Content,
    /// How many recipients outside it goes to; they are numbered from 0.
    deliveries: usize,
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
}

/// What happened to a delivery.
#[derive(Serialize, ToSchema)]
pub struct DeliveryStatus {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    message_id: MessageId,
    /// The delivery's number within the message.
    number: u16,
    /// What is reported; the furthest of its generation counts.
    #[schema(value_type = String)]
    status: Status,
    /// `DeliveryAttempted`, `DeliverySent`, …
    event: &'static str,
    #[schema(value_type = String, example = "07-1234")]
    position: Position,
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// Of a failure or a wait.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_class: Option<FailureClass>,
    /// Of a failure or a wait.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<Reason>,
}

/// A user has read further.
#[derive(Serialize, ToSchema)]
pub struct ReadFurther {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    /// The last message that they have seen.
    #[schema(value_type = uuid::Uuid)]
    up_to: MessageId,
    #[schema(value_type = String, format = DateTime)]
    read_at: Timestamp,
}

/// A conversation was started.
#[derive(Serialize, ToSchema)]
pub struct Started {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    /// `direct` or `group`.
    #[schema(value_type = String)]
    kind: conversation::Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    participants: Vec<LiveParticipant>,
}

/// Somebody joined.
#[derive(Serialize, ToSchema)]
pub struct Joined {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    participant: LiveParticipant,
}

/// Somebody left.
#[derive(Serialize, ToSchema)]
pub struct Left {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
}

/// A user has `user_id`, somebody outside `channel`.
#[derive(Serialize, ToSchema)]
pub struct LiveParticipant {
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    #[schema(value_type = Option<uuid::Uuid>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<AccountId>,
}

/// The data of a server-sent event; empty for what is not about a conversation.
pub(super) fn data(entry: &Entry) -> Bytes {
    let (position, events) = events(entry);
    let Some(position) = position else {
        return Bytes::new();
    };
    json(&LiveUpdate { position, events }).into()
}

/// One frame per message and per status that a thin client shows.
pub(super) fn frames(entry: &Entry) -> Vec<Utf8Bytes> {
    let (_, events) = events(entry);
    let for_thin_clients = |event: &LiveEvent| match event {
        LiveEvent::NewMessage(_) => true,
        LiveEvent::Status(status) => {
            !matches!(status.event, "DeliveryAttempted" | "DeliveryDeferred")
        }
        LiveEvent::Read(_)
        | LiveEvent::ConversationStarted(_)
        | LiveEvent::ParticipantJoined(_)
        | LiveEvent::ParticipantLeft(_) => false,
    };
    let shown = events.iter().filter(|event| for_thin_clients(event));
    shown.map(|event| json(event).into()).collect()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings and numbers")
}

fn events(entry: &Entry) -> (Option<Position>, Vec<LiveEvent>) {
    match &entry.what {
        What::Changed(Change::Message(id, events)) => of(events, |one| new_message(*id, one)),
        What::Changed(Change::Delivery(id, events)) => of(events, |one| status_of(*id, one)),
        What::Changed(Change::Reader(id, events)) => of(events, |one| read(*id, one)),
        What::Changed(Change::Conversation(id, events)) => of(events, |one| conversed(*id, one)),
        What::Changed(Change::Identity(..)) | What::Unreadable { .. } | What::Parked(_) => {
            (None, Vec::new())
        }
    }
}

fn of<E>(
    events: &[Recorded<E>],
    shown: impl Fn(&Recorded<E>) -> LiveEvent,
) -> (Option<Position>, Vec<LiveEvent>) {
    let position = events.first().map(|first| first.position);
    (position, events.iter().map(shown).collect())
}

fn new_message(id: message::Id, one: &Recorded<message::Event>) -> LiveEvent {
    let message::Event::Accepted { facts, personal } = &one.event;
    let (origin, channel) = match &facts.origin {
        Origin::Api => ("api", None),
        Origin::Channel { account } => ("channel", Some(account.clone())),
    };
    LiveEvent::NewMessage(Box::new(NewMessage {
        conversation_id: id.conversation,
        message_id: id.message,
        position: one.position,
        author: facts.author,
        origin,
        channel,
        content: personal.content.clone(),
        deliveries: facts.deliveries.len(),
        occurred_at: facts.occurred_at,
        recorded_at: one.recorded_at,
    }))
}

fn status_of(id: delivery::Id, one: &Recorded<delivery::Event>) -> LiveEvent {
    let (failure_class, failure_reason) = match &one.event {
        delivery::Event::Failed { facts, .. } => (Some(facts.class), Some(facts.reason)),
        delivery::Event::Deferred { facts } => (Some(facts.class), Some(facts.reason)),
        delivery::Event::Attempted { .. }
        | delivery::Event::Sent { .. }
        | delivery::Event::Delivered { .. }
        | delivery::Event::Read { .. }
        | delivery::Event::Redriven { .. } => (None, None),
    };
    LiveEvent::Status(DeliveryStatus {
        conversation_id: id.conversation,
        message_id: id.message,
        number: one.event.key().0,
        status: status::reported(&one.event),
        event: chat4all_domain::Event::name(&one.event),
        position: one.position,
        recorded_at: one.recorded_at,
        failure_class,
        failure_reason,
    })
}

fn read(id: reader::Id, one: &Recorded<reader::Event>) -> LiveEvent {
    let reader::Event::ReadUpTo { facts } = &one.event;
    LiveEvent::Read(ReadFurther {
        conversation_id: id.conversation,
        participant_id: id.participant,
        up_to: facts.message,
        read_at: facts.occurred_at,
    })
}

fn conversed(id: ConversationId, one: &Recorded<Conversed>) -> LiveEvent {
    match &one.event {
        Conversed::Started { facts, personal } => LiveEvent::ConversationStarted(Started {
            conversation_id: id,
            kind: facts.kind,
            title: personal
                .title
                .as_ref()
                .map(|title| title.reveal().to_owned()),
            participants: facts.participants.iter().map(participant).collect(),
        }),
        Conversed::Joined { facts, .. } => LiveEvent::ParticipantJoined(Joined {
            conversation_id: id,
            participant: participant(&facts.participant),
        }),
        Conversed::Left { facts } => LiveEvent::ParticipantLeft(Left {
            conversation_id: id,
            participant_id: facts.participant,
        }),
    }
}

fn participant(placed: &Placed) -> LiveParticipant {
    let (user_id, channel) = match &placed.who {
        Who::User { user } => (Some(*user), None),
        Who::Contact { account, .. } => (None, Some(account.clone())),
    };
    LiveParticipant {
        participant_id: placed.participant,
        user_id,
        channel,
    }
}
