//! The command API through its own door, on a real nats-server.
//!
//! Two instances on one log, a broker that is killed, hung and restarted: what was answered stays true.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod conversations;
mod faults;
mod idempotency;
mod membership;
mod redrive;
mod refusals;
mod role;
mod room;
mod sending;
mod stack;

use serde_json::{Value, json};
use uuid::Uuid;

/// A text message into a conversation.
fn message(conversation: &str, text: &str) -> Value {
    json!({"conversation_id": conversation, "content": {"type": "text", "text": text}})
}

/// A text message to a phone number on WhatsApp.
fn to_phone(phone: &str, text: &str) -> Value {
    json!({"to": {"channel": "whatsapp", "address": phone}, "content": {"type": "text", "text": text}})
}

fn id(answer: &Value, name: &str) -> String {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
        .to_owned()
}

/// The user id behind a `sub`.
fn user(sub: &str) -> String {
    chat4all_domain::UserId::derive("chat4all", sub).to_string()
}

fn fresh() -> String {
    Uuid::now_v7().to_string()
}
