//! Enums: the domain's words. A new word there does not compile here until it has a name for clients.

use async_graphql::Enum;
use chat4all_domain::{ChannelKind as Kind, conversation, delivery};

use crate::dead_letters;

/// How many parties a conversation has.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "conversation::Kind")]
pub enum ConversationKind {
    /// With one outside address, or between two users.
    Direct,
    /// Any number of users and outside addresses.
    Group,
}

/// A kind of channel.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Kind")]
pub enum ChannelKind {
    /// WhatsApp.
    #[graphql(name = "WHATSAPP")]
    WhatsApp,
}

/// How a message came to us.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum MessageOrigin {
    /// A client posted it.
    Api,
    /// A channel account received it.
    Channel,
}

/// What kind of dead letter it is.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "dead_letters::Kind")]
pub enum DeadLetterKind {
    /// An event that the projector could not fold: rows may lack what it says.
    PoisonEvent,
    /// Something that came in and could not be understood, or placed.
    ParkedInbound,
    /// A delivery that has failed and was not redriven.
    FailedDelivery,
}

/// What was put aside.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum ParkedWhat {
    /// A part of a webhook call that could not be understood or taken in, or all of it.
    Item,
    /// A receipt of a message that nobody knows. It is dealt with when the message becomes known.
    Receipt,
}

/// How far a delivery has come.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "delivery::Status")]
pub enum DeliveryStatus {
    /// Not handed over yet.
    Pending,
    /// The provider took it.
    Sent,
    /// It arrived.
    Delivered,
    /// It was seen.
    Read,
    /// It will not arrive, unless it is redriven.
    Failed,
}

/// What kind of failure it was; decides what happens next.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "delivery::FailureClass")]
pub enum FailureClass {
    /// The account is sending too fast: it pauses.
    Rate,
    /// This recipient is getting too much: their lane pauses.
    Pair,
    /// The provider stumbled: it is tried again later.
    Transient,
    /// The call's outcome is not known.
    Unsure,
    /// Not before tomorrow.
    #[graphql(name = "LATER_24H")]
    Later24h,
    /// Somebody must repair the account: its queue is held.
    Operator,
    /// The provider understood, and said no.
    Permanent,
    /// The recipient does not want it.
    Stopped,
    /// Outside the window in which free text is allowed.
    Window,
    /// It may pass in a simpler form.
    Degrade,
}

/// Why a delivery failed or waits, in one vocabulary for every channel.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "delivery::Reason")]
pub enum FailureReason {
    RateLimited,
    RecipientInvalidChannelIdentity,
    RecipientNotReachable,
    RecipientNotOptedIn,
    OutsideAllowedSendingWindow,
    ChannelFailure,
    ChannelBadConfiguration,
    ChannelConfigurationMissing,
    MediaTypeUnsupported,
    MediaTooLarge,
    MediaNotReachable,
    TemplateInvalid,
    TemplateUnavailable,
    MessageExpired,
    MessageInvalid,
    InactiveCredential,
    InternalError,
    Unknown,
}
