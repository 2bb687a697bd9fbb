//! What a channel can tell us about a delivery.

use chat4all_domain::ChannelKind;
use chat4all_domain::delivery::Status;

/// The furthest step that a kind's provider reports: a delivery that stands there will not move on.
///
/// Source: WhatsApp Cloud API, webhook statuses `sent`, `delivered`, `read`.
pub const fn highest(kind: ChannelKind) -> Status {
    match kind {
        ChannelKind::WhatsApp => Status::Read,
    }
}
