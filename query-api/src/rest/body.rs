//! What REST answers, field by field. Times are RFC 3339 in UTC with milliseconds; ids are UUIDs.

use chat4all_domain::conversation::{Kind, Who};
use chat4all_domain::delivery::{FailureClass, Reason, Status};
use chat4all_domain::message::{Content, Origin};
use chat4all_domain::{
    AccountId, ConversationId, MessageId, ParticipantId, Position, Timestamp, UserId,
};
use chat4all_postgres::read::deliveries::{self, Tally};
use chat4all_postgres::read::{Slice, conversations, marks, messages, participants};
use serde::Serialize;
use utoipa::ToSchema;

/// The position that a parameter names.
///
/// # Errors
/// 422 for what is no position.
pub fn at_least(text: Option<String>) -> Result<Option<Position>, chat4all_service::Problem> {
    let position = text.map(|text| text.parse()).transpose();
    position.map_err(|error: chat4all_domain::position::ParsePositionError| {
        chat4all_service::Problem::field("/at_least", error.to_string())
    })
}

/// What went wrong (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// `urn:chat4all:problem:` and the code.
    r#type: String,
    /// What kind of problem it is.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was wrong and what would be right.
    detail: String,
    /// To branch on, such as `not_found`.
    code: String,
    /// What is wrong with which field or parameter.
    errors: Option<Vec<FieldError>>,
    /// Finds the request in logs and traces.
    trace_id: Option<String>,
}

/// What is wrong with one field.
#[derive(Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body; for parameters, `/` and the name.
    pointer: String,
    /// What was wrong and what would be right.
    detail: String,
}

/// What lies beyond a page.
#[derive(Serialize, ToSchema)]
pub struct PageInfo {
    /// Whether there are items before the first.
    has_previous_page: bool,
    /// Whether there are items behind the last.
    has_next_page: bool,
    /// The first item's cursor, for `before`.
    start_cursor: Option<String>,
    /// The last item's cursor, for `after`.
    end_cursor: Option<String>,
}

impl PageInfo {
    /// Of a slice whose items have a cursor each.
    pub fn of<T>(slice: &Slice<T>, cursor: impl Fn(&T) -> String) -> Self {
        Self {
            has_previous_page: slice.more_before,
            has_next_page: slice.more_after,
            start_cursor: slice.items.first().map(&cursor),
            end_cursor: slice.items.last().map(&cursor),
        }
    }
}

/// A part of the list of conversations.
#[derive(Serialize, ToSchema)]
pub struct Conversations {
    /// Latest activity first.
    pub conversations: Vec<Conversation>,
    /// What lies beyond.
    pub page_info: PageInfo,
}

/// A conversation.
#[derive(Serialize, ToSchema)]
pub struct Conversation {
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
    /// `direct` or `group`.
    #[schema(value_type = String)]
    kind: Kind,
    /// What it is called; absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Everybody who is or was in it.
    participants: Vec<Participant>,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// The last thing that happened in it; for a caller who has left, when they left.
    #[schema(value_type = String, format = DateTime)]
    last_activity_at: Timestamp,
    /// How many messages it has; null for a caller who has left.
    message_count: Option<u64>,
}

impl Conversation {
    /// As it is shown.
    pub fn new(
        found: &conversations::Conversation,
        everybody: &[participants::Participant],
    ) -> Self {
        Self {
            conversation_id: found.id,
            kind: found.kind,
            title: found.title.as_ref().map(|title| title.reveal().to_owned()),
            participants: everybody.iter().map(Participant::from).collect(),
            started_at: found.started_at,
            last_activity_at: found.last_activity_at,
            message_count: found.message_count,
        }
    }
}

/// A participant: a user has `user_id`, somebody outside `channel` and `address`.
#[derive(Serialize, ToSchema)]
pub struct Participant {
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    #[schema(value_type = Option<uuid::Uuid>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    joined_at: Option<Timestamp>,
    /// Null while they are in it.
    #[schema(value_type = Option<String>, format = DateTime)]
    left_at: Option<Timestamp>,
}

impl From<&participants::Participant> for Participant {
    fn from(found: &participants::Participant) -> Self {
        let (user_id, channel) = match &found.who {
            Who::User { user } => (Some(*user), None),
            Who::Contact { account, .. } => (None, Some(account.clone())),
        };
        let last = found.stays.last();
        Self {
            participant_id: found.id,
            user_id,
            channel,
            address: found
                .address
                .as_ref()
                .map(|address| address.reveal().to_owned()),
            joined_at: last.map(|stay| stay.joined_at),
            left_at: last.and_then(|stay| stay.left).map(|(_, at)| at),
        }
    }
}

/// A part of the list of messages.
#[derive(Serialize, ToSchema)]
pub struct Messages {
    /// In the order of the conversation.
    pub messages: Vec<Message>,
    /// What lies beyond.
    pub page_info: PageInfo,
}

/// A message.
#[derive(Serialize, ToSchema)]
pub struct Message {
    #[schema(value_type = uuid::Uuid)]
    message_id: MessageId,
    #[schema(value_type = uuid::Uuid)]
    conversation_id: ConversationId,
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
    /// When it was written; for a channel's message by the provider's clock.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// When it was accepted, by ours.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// The least of its deliveries that have not failed, `FAILED` only when all have; null when it goes to nobody outside.
    #[schema(value_type = Option<String>)]
    status: Option<Status>,
    /// How many of its deliveries stand where.
    delivery_counts: DeliveryCounts,
    /// The users who have read it.
    read_by: Vec<ReadMark>,
}

impl Message {
    /// As it is shown.
    pub fn new(
        found: &messages::Message,
        tally: Tally,
        read_by: &[(marks::Mark, participants::Participant)],
    ) -> Self {
        let (origin, channel) = match &found.origin {
            Origin::Api => ("api", None),
            Origin::Channel { account } => ("channel", Some(account.clone())),
        };
        let mark = |(mark, whose): &(marks::Mark, participants::Participant)| ReadMark {
            participant_id: whose.id,
            read_at: mark.read_at,
        };
        Self {
            message_id: found.id,
            conversation_id: found.conversation,
            position: found.position,
            author: found.author,
            origin,
            channel,
            content: found.content.clone(),
            occurred_at: found.occurred_at,
            recorded_at: found.recorded_at,
            status: tally.status(),
            delivery_counts: DeliveryCounts {
                pending: tally.pending,
                sent: tally.sent,
                delivered: tally.delivered,
                read: tally.read,
                failed: tally.failed,
            },
            read_by: read_by.iter().map(mark).collect(),
        }
    }
}

/// How many deliveries stand where.
#[derive(Serialize, ToSchema)]
pub struct DeliveryCounts {
    pending: u32,
    sent: u32,
    delivered: u32,
    read: u32,
    failed: u32,
}

/// A user who has read that far.
#[derive(Serialize, ToSchema)]
pub struct ReadMark {
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    /// When their mark was put where it is now.
    #[schema(value_type = String, format = DateTime)]
    read_at: Timestamp,
}

/// A message with its deliveries.
#[derive(Serialize, ToSchema)]
pub struct MessageDetail {
    #[serde(flatten)]
    message: Message,
    /// One for each outside recipient, by number.
    deliveries: Vec<Delivery>,
    /// What happened to them, in order.
    history: Vec<DeliveryEvent>,
}

impl MessageDetail {
    /// As it is shown.
    pub fn new(
        message: Message,
        deliveries: &[deliveries::Delivery],
        history: &[deliveries::Happened],
    ) -> Self {
        let partition = message.position.partition;
        let event = |happened: &deliveries::Happened| DeliveryEvent {
            number: happened.n,
            r#type: happened.event.clone(),
            position: Position::new(partition, happened.sequence),
            attempt: happened.attempt,
            occurred_at: happened.occurred_at,
            recorded_at: happened.recorded_at,
            failure_class: happened.details.class,
            failure_reason: happened.details.reason,
            provider_code: happened.details.provider_code.clone(),
            waiting_until: happened.details.until,
            generation: happened.details.generation,
            by_user_id: happened.details.by,
        };
        Self {
            message,
            deliveries: deliveries.iter().map(Delivery::from).collect(),
            history: history.iter().map(event).collect(),
        }
    }
}

/// A message on its way to one outside recipient. One time per step; a step that nobody told us about is null.
#[derive(Serialize, ToSchema)]
pub struct Delivery {
    /// Its number within the message; `redrive` takes it.
    number: u16,
    #[schema(value_type = uuid::Uuid)]
    participant_id: ParticipantId,
    /// The account it goes out through.
    #[schema(value_type = String)]
    channel: AccountId,
    address: Option<String>,
    #[schema(value_type = String)]
    status: Status,
    /// The furthest that its channel ever reports, not how far this one has come.
    #[schema(value_type = String)]
    highest_status: Status,
    generation: u32,
    attempts: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    attempted_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    sent_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    read_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    failed_at: Option<Timestamp>,
    /// Of a delivery that failed or that waits.
    #[schema(value_type = Option<String>)]
    failure_class: Option<FailureClass>,
    #[schema(value_type = Option<String>)]
    failure_reason: Option<Reason>,
    provider_code: Option<String>,
    /// The next attempt is not before this moment; null unless it waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    waiting_until: Option<Timestamp>,
}

impl From<&deliveries::Delivery> for Delivery {
    fn from(found: &deliveries::Delivery) -> Self {
        let (failed, waiting) = (found.failed.as_ref(), found.waiting.as_ref());
        Self {
            number: found.n,
            participant_id: found.participant,
            channel: found.account.clone(),
            address: found
                .address
                .as_ref()
                .map(|address| address.reveal().to_owned()),
            status: found.status,
            highest_status: crate::status::highest(found.kind),
            generation: found.generation,
            attempts: found.attempts,
            attempted_at: found.attempted_at,
            sent_at: found.sent_at,
            delivered_at: found.delivered_at,
            read_at: found.read_at,
            failed_at: failed.map(|failed| failed.at),
            failure_class: failed
                .map(|failed| failed.class)
                .or(waiting.map(|waiting| waiting.class)),
            failure_reason: failed
                .map(|failed| failed.reason)
                .or(waiting.map(|waiting| waiting.reason)),
            provider_code: failed.and_then(|failed| failed.provider_code.clone()),
            waiting_until: waiting.map(|waiting| waiting.until),
        }
    }
}

/// One thing that happened to a delivery.
#[derive(Serialize, ToSchema)]
pub struct DeliveryEvent {
    /// The delivery's number within the message.
    number: u16,
    /// `DeliveryAttempted`, `DeliverySent`, …
    r#type: String,
    /// Where it stands in the log.
    #[schema(value_type = String, example = "07-1234")]
    position: Position,
    /// The attempt it is about; null for a redrive.
    attempt: Option<u32>,
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_class: Option<FailureClass>,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_code: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_until: Option<Timestamp>,
    /// Of a redrive: which generation it opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    /// Of a redrive: the user who asked for it.
    #[schema(value_type = Option<uuid::Uuid>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    by_user_id: Option<UserId>,
}
