//! What subscriptions show of a conversation, built from the log.

use async_graphql::{ID, SimpleObject, Union};
use chat4all_domain::conversation::{Event as Conversed, Participant as Placed, Who};
use chat4all_domain::{Position, Recorded, Timestamp, delivery, message, reader};
use chat4all_nats::Change;

use super::message::Content;
use super::scalar::{Moment, Place};
use super::words::{ConversationKind, DeliveryStatus, FailureClass, FailureReason, MessageOrigin};
use crate::live::{Entry, Update, What};
use crate::status;

/// What one event of the log said, about one conversation.
#[derive(SimpleObject)]
pub struct ConversationUpdate {
    /// Resume behind it: up to here nothing is missing. Opaque.
    cursor: String,
    /// Where it stands in the log; null when only the cursor has moved.
    position: Option<Place>,
    /// What happened, in order; empty when only the cursor has moved.
    events: Vec<ConversationEvent>,
}

impl From<Update> for ConversationUpdate {
    fn from(update: Update) -> Self {
        let entry = update.entry.as_deref();
        let (position, events) = entry.map(shown).unwrap_or_default();
        Self {
            cursor: update.cursor,
            position: position.map(Place),
            events,
        }
    }
}

/// Something that happened in a conversation.
#[derive(Union)]
pub enum ConversationEvent {
    /// A message was accepted.
    Message(Box<MessageAccepted>),
    /// Something happened to a delivery.
    Delivery(DeliveryChanged),
    /// A user has read further.
    Read(ReadFurther),
    /// It was started.
    Started(ConversationStarted),
    /// Somebody joined.
    Joined(ParticipantJoined),
    /// Somebody left.
    Left(ParticipantLeft),
}

/// A message was accepted.
#[derive(SimpleObject)]
pub struct MessageAccepted {
    /// The conversation's id in commands and in REST.
    conversation_id: ID,
    /// Names it within its conversation, in commands and in REST.
    message_id: ID,
    /// The participant who wrote it.
    author_id: ID,
    /// How it came to us.
    origin: MessageOrigin,
    /// The channel account that received it, when a channel did.
    channel: Option<String>,
    /// What it says.
    content: Content,
    /// How many recipients outside it goes to; they are numbered from 0.
    deliveries: usize,
    /// When it was written; for a channel's message by the provider's clock.
    occurred_at: Moment,
    /// When it was accepted, by ours.
    recorded_at: Moment,
    /// Deliveries that have not left by then expire.
    valid_until: Moment,
}

/// Something happened to a delivery.
#[derive(SimpleObject)]
pub struct DeliveryChanged {
    /// The conversation's id in commands and in REST.
    conversation_id: ID,
    /// Names the message within its conversation.
    message_id: ID,
    /// The delivery's number within the message.
    number: u16,
    /// What is reported. Reports may outrun each other: the furthest of a generation counts.
    status: DeliveryStatus,
    /// What happened: `DeliveryAttempted`, `DeliverySent`, `DeliveryDelivered`, `DeliveryRead`, `DeliveryFailed`,
    /// `DeliveryDeferred`, `DeliveryRedriven`.
    #[graphql(name = "type")]
    event: String,
    /// The attempt it is about; null for a redrive.
    attempt: Option<u32>,
    /// Of a redrive: which generation it opened.
    generation: Option<u32>,
    /// Of a failure or a wait: what kind.
    failure_class: Option<FailureClass>,
    /// Of a failure or a wait: why.
    failure_reason: Option<FailureReason>,
    /// Of a failure: the provider's error code.
    provider_code: Option<String>,
    /// Of a wait: the next attempt is not before this moment.
    waiting_until: Option<Moment>,
    /// When, by the clock of whoever noticed; null for a wait.
    occurred_at: Option<Moment>,
    /// When it was recorded, by ours.
    recorded_at: Moment,
}

/// A user has read further.
#[derive(SimpleObject)]
pub struct ReadFurther {
    /// The conversation's id in commands and in REST.
    conversation_id: ID,
    /// The reader's id within the conversation.
    participant_id: ID,
    /// The last message that they have seen: everything before it too.
    up_to_message_id: ID,
    /// When they came that far.
    read_at: Moment,
}

/// A conversation was started.
#[derive(SimpleObject)]
pub struct ConversationStarted {
    /// Its id in commands and in REST.
    conversation_id: ID,
    /// Direct or group.
    kind: ConversationKind,
    /// What it is called.
    title: Option<String>,
    /// Everybody in it from the start.
    participants: Vec<Placement>,
    /// When.
    started_at: Moment,
}

/// Somebody joined a conversation.
#[derive(SimpleObject)]
pub struct ParticipantJoined {
    /// The conversation's id in commands and in REST.
    conversation_id: ID,
    /// Who.
    participant: Placement,
    /// When.
    joined_at: Moment,
}

/// Somebody left a conversation.
#[derive(SimpleObject)]
pub struct ParticipantLeft {
    /// The conversation's id in commands and in REST.
    conversation_id: ID,
    /// Who: their id within the conversation.
    participant_id: ID,
    /// When.
    left_at: Moment,
}

/// Somebody's place in a conversation; `Participant` has the rest.
#[derive(SimpleObject)]
pub struct Placement {
    /// Names them within the conversation.
    participant_id: ID,
    /// A user's id.
    user_id: Option<ID>,
    /// The account that somebody outside is reached through.
    channel: Option<String>,
}

fn id(id: impl ToString) -> ID {
    ID(id.to_string())
}

fn shown(entry: &Entry) -> (Option<Position>, Vec<ConversationEvent>) {
    match &entry.what {
        What::Changed(Change::Message(key, events)) => all(events, |one| accepted(*key, one)),
        What::Changed(Change::Delivery(key, events)) => all(events, |one| changed(*key, one)),
        What::Changed(Change::Reader(key, events)) => all(events, |one| read(*key, one)),
        What::Changed(Change::Conversation(key, events)) => {
            all(events, |one| conversed(id(key), one))
        }
        What::Changed(Change::Identity(..)) | What::Unreadable { .. } | What::Parked(_) => {
            (None, Vec::new())
        }
    }
}

fn all<E>(
    events: &[Recorded<E>],
    shown: impl Fn(&Recorded<E>) -> ConversationEvent,
) -> (Option<Position>, Vec<ConversationEvent>) {
    let position = events.first().map(|first| first.position);
    (position, events.iter().map(shown).collect())
}

fn accepted(key: message::Id, one: &Recorded<message::Event>) -> ConversationEvent {
    let message::Event::Accepted { facts, personal } = &one.event;
    let (origin, channel) = match &facts.origin {
        message::Origin::Api => (MessageOrigin::Api, None),
        message::Origin::Channel { account } => (MessageOrigin::Channel, Some(account.to_string())),
    };
    ConversationEvent::Message(Box::new(MessageAccepted {
        conversation_id: id(key.conversation),
        message_id: id(key.message),
        author_id: id(facts.author),
        origin,
        channel,
        content: Content::from(&personal.content),
        deliveries: facts.deliveries.len(),
        occurred_at: Moment(facts.occurred_at),
        recorded_at: Moment(one.recorded_at),
        valid_until: Moment(facts.valid_until),
    }))
}

/// What an event of a delivery has beside its key, as far as it has it.
#[derive(Default)]
struct Told<'e> {
    attempt: Option<u32>,
    generation: Option<u32>,
    why: Option<(delivery::FailureClass, delivery::Reason)>,
    provider_code: Option<&'e str>,
    until: Option<Timestamp>,
    occurred_at: Option<Timestamp>,
}

fn told(event: &delivery::Event) -> Told<'_> {
    let step = |attempt, occurred_at| Told {
        attempt: Some(attempt),
        occurred_at: Some(occurred_at),
        ..Told::default()
    };
    match event {
        delivery::Event::Attempted { facts } => step(facts.attempt, facts.occurred_at),
        delivery::Event::Sent { facts, .. } => step(facts.attempt, facts.occurred_at),
        delivery::Event::Delivered { facts } | delivery::Event::Read { facts } => {
            step(facts.attempt, facts.occurred_at)
        }
        delivery::Event::Failed { facts, .. } => Told {
            why: Some((facts.class, facts.reason)),
            provider_code: facts.provider_code.as_deref(),
            ..step(facts.attempt, facts.occurred_at)
        },
        delivery::Event::Deferred { facts } => Told {
            attempt: Some(facts.attempt),
            why: Some((facts.class, facts.reason)),
            until: Some(facts.until),
            ..Told::default()
        },
        delivery::Event::Redriven { facts } => Told {
            generation: Some(facts.generation),
            occurred_at: Some(facts.occurred_at),
            ..Told::default()
        },
    }
}

fn changed(key: delivery::Id, one: &Recorded<delivery::Event>) -> ConversationEvent {
    let told = told(&one.event);
    ConversationEvent::Delivery(DeliveryChanged {
        conversation_id: id(key.conversation),
        message_id: id(key.message),
        number: one.event.key().0,
        status: status::reported(&one.event).into(),
        event: chat4all_domain::Event::name(&one.event).to_owned(),
        attempt: told.attempt,
        generation: told.generation,
        failure_class: told.why.map(|(class, _)| class.into()),
        failure_reason: told.why.map(|(_, reason)| reason.into()),
        provider_code: told.provider_code.map(str::to_owned),
        waiting_until: told.until.map(Moment),
        occurred_at: told.occurred_at.map(Moment),
        recorded_at: Moment(one.recorded_at),
    })
}

fn read(key: reader::Id, one: &Recorded<reader::Event>) -> ConversationEvent {
    let reader::Event::ReadUpTo { facts } = &one.event;
    ConversationEvent::Read(ReadFurther {
        conversation_id: id(key.conversation),
        participant_id: id(key.participant),
        up_to_message_id: id(facts.message),
        read_at: Moment(facts.occurred_at),
    })
}

fn conversed(conversation_id: ID, one: &Recorded<Conversed>) -> ConversationEvent {
    match &one.event {
        Conversed::Started { facts, personal } => ConversationEvent::Started(ConversationStarted {
            conversation_id,
            kind: facts.kind.into(),
            title: personal
                .title
                .as_ref()
                .map(|title| title.reveal().to_owned()),
            participants: facts.participants.iter().map(placement).collect(),
            started_at: Moment(facts.occurred_at),
        }),
        Conversed::Joined { facts, .. } => ConversationEvent::Joined(ParticipantJoined {
            conversation_id,
            participant: placement(&facts.participant),
            joined_at: Moment(facts.occurred_at),
        }),
        Conversed::Left { facts } => ConversationEvent::Left(ParticipantLeft {
            conversation_id,
            participant_id: id(facts.participant),
            left_at: Moment(facts.occurred_at),
        }),
    }
}

fn placement(placed: &Placed) -> Placement {
    let (user_id, channel) = match &placed.who {
        Who::User { user } => (Some(id(user)), None),
        Who::Contact { account, .. } => (None, Some(account.to_string())),
    };
    Placement {
        participant_id: id(placed.participant),
        user_id,
        channel,
    }
}
