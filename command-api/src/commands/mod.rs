//! One file per command: its body, what it does, its answer.

mod accept;
mod accepted;
pub(crate) mod add_participant;
mod draft;
pub(crate) mod mark_read;
pub(crate) mod membership;
pub(crate) mod redrive;
pub(crate) mod remove_participant;
pub(crate) mod send_message;
pub(crate) mod start_conversation;
mod view;

use axum::http::{HeaderName, HeaderValue};

/// On the answer to a repeated request: `true`. The answer is that to the first one.
pub const REPLAY: HeaderName = HeaderName::from_static("idempotent-replay");
const TRUE: HeaderValue = HeaderValue::from_static("true");
