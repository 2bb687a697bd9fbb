//! What a channel can tell us about a delivery.

use chat4all_domain::ChannelKind;
use chat4all_domain::delivery::{self, Status};

/// The furthest step that a kind's provider reports: a delivery that stands there will not move on.
///
/// Source: WhatsApp Cloud API, webhook statuses `sent`, `delivered`, `read`.
pub const fn highest(kind: ChannelKind) -> Status {
    match kind {
        ChannelKind::WhatsApp => Status::Read,
    }
}

/// What an event says a delivery has come to. Where receipts outrun each other the delivery may stand further already.
pub const fn reported(event: &delivery::Event) -> Status {
    match event {
        delivery::Event::Attempted { .. }
        | delivery::Event::Deferred { .. }
        | delivery::Event::Redriven { .. } => Status::Pending,
        delivery::Event::Sent { .. } => Status::Sent,
        delivery::Event::Delivered { .. } => Status::Delivered,
        delivery::Event::Read { .. } => Status::Read,
        delivery::Event::Failed { .. } => Status::Failed,
    }
}
