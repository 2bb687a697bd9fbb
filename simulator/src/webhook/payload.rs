//! The body of a webhook call and its signature.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Item, What};
use crate::clock::UnixMs;
use crate::config::AccountConfig;
use crate::graph::webhook_error;
use crate::phone::{Message, Step};

/// The body that tells `items`, all of one account: messages in one change, statuses in another.
pub(super) fn body(account: &AccountConfig, digits: &str, items: &[Arc<Item>]) -> Value {
    let mut messages = Vec::new();
    let mut statuses = Vec::new();
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for item in items {
        match item.what {
            What::Message => {
                messages.push(message(digits, &item.message));
                add_contact(&mut writers, &item.message);
            }
            What::Status {
                step, at, error, ..
            } => {
                statuses.push(status(&item.message, step, at, error));
                if step != Step::Failed {
                    add_contact(&mut readers, &item.message);
                }
            }
        }
    }
    let mut changes = Vec::new();
    for (key, list, contacts) in [
        ("messages", messages, writers),
        ("statuses", statuses, readers),
    ] {
        if !list.is_empty() {
            changes.push(change(account, digits, key, list, contacts));
        }
    }
    json!({
        "object": "whatsapp_business_account",
        "entry": [{"id": account.waba_id, "changes": changes}],
    })
}

fn change(
    account: &AccountConfig,
    digits: &str,
    key: &str,
    list: Vec<Value>,
    contacts: Vec<Value>,
) -> Value {
    let mut value = json!({
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": digits,
            "phone_number_id": account.phone_number_id,
        },
    });
    // A failed status comes without contacts.
    if !contacts.is_empty() {
        value["contacts"] = contacts.into();
    }
    value[key] = list.into();
    json!({"field": "messages", "value": value})
}

fn add_contact(contacts: &mut Vec<Value>, message: &Message) {
    let contact = json!({"profile": {"name": &*message.name}, "wa_id": &*message.number});
    if !contacts.contains(&contact) {
        contacts.push(contact);
    }
}

fn message(digits: &str, message: &Message) -> Value {
    let mut value = json!({
        "from": &*message.number,
        "id": message.wamid,
        "timestamp": message.at.seconds_text(),
        "type": "text",
        "text": {"body": message.text},
    });
    if let Some(id) = &message.reply_to {
        value["context"] = json!({"from": digits, "id": id});
    }
    value
}

fn status(message: &Message, step: Step, at: UnixMs, error: Option<u32>) -> Value {
    let mut value = json!({
        "id": message.wamid,
        "status": step.as_str(),
        "timestamp": at.seconds_text(),
        "recipient_id": &*message.number,
    });
    if let Some(data) = &message.callback_data {
        value["biz_opaque_callback_data"] = json!(data);
    }
    match step {
        Step::Sent | Step::Delivered => {
            value["conversation"] = conversation(message, step);
            value["pricing"] = json!({
                "billable": false,
                "pricing_model": "PMP",
                "category": "service",
                "type": "free_customer_service",
            });
        }
        Step::Read => {}
        Step::Failed => value["errors"] = json!([webhook_error(error.unwrap_or(131000))]),
    }
    value
}

fn conversation(message: &Message, step: Step) -> Value {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut id = Hmac::<Sha256>::new_from_slice(message.phone_number_id.as_bytes())
        .expect("any length is a key");
    id.update(message.number.as_bytes());
    let id = hex(&id.finalize().into_bytes()[..16]);
    let mut conversation = json!({"id": id, "origin": {"type": "service"}});
    if step == Step::Sent {
        conversation["expiration_timestamp"] = message.at.plus_ms(DAY_MS).seconds_text().into();
    }
    conversation
}

/// The value of `X-Hub-Signature-256` for these bytes.
pub(super) fn signature(app_secret: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(app_secret.as_bytes()).expect("any length is a key");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
