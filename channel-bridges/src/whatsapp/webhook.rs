//! Calls in: the signature, and what a body says. Pure: a fixture is a complete test.

use std::collections::HashMap;

use chat4all_domain::delivery::{FailureClass, Reason, Step};
use chat4all_domain::identity::MAX_NAME_CHARS;
use chat4all_domain::message::Content;
use chat4all_domain::{Address, ChannelKind, Text, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::Sha256;

use super::payload::{Call, Change, Contact, Entry, Message, Status, Value};
use super::{Account, error};
use crate::channel::{Incoming, Item, Report, Unreadable, What};

/// The header with the signature: `sha256=<64 hexadecimal digits>`.
pub const SIGNATURE: &str = "x-hub-signature-256";
/// The longest word we keep for a type of message that we cannot show.
const MAX_TYPE_CHARS: usize = 32;

/// Whether `signature` is the HMAC-SHA-256 of exactly these bytes under the app's secret. Takes the same time whatever is
/// wrong with it.
pub fn signed(account: &Account, signature: Option<&str>, body: &[u8]) -> bool {
    let Some(said) = signature.and_then(|text| from_hex(text.strip_prefix("sha256=")?)) else {
        return false;
    };
    let secret = account.app_secret.expose_secret().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(body);
    mac.verify_slice(&said).is_ok()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Everything a body says, item by item and in its order.
pub fn read_webhook(account: &Account, body: &[u8]) -> Vec<Item> {
    let raw = || String::from_utf8_lossy(body).into_owned();
    let call = match serde_json::from_slice::<Call<'_>>(body) {
        Ok(call) if call.object == "whatsapp_business_account" => call,
        Ok(_) => return vec![bad(raw(), "not about a WhatsApp business account")],
        Err(_) => return vec![bad(raw(), "not a webhook call")],
    };
    let mut items = Vec::new();
    for entry in call.entry {
        entered(account, entry, &mut items);
    }
    items
}

/// What an [`Item::raw`] says today. It is a call, or a part of one; which part shows in its fields. A message that comes
/// alone does not bring its sender's name along.
pub fn read_again(account: &Account, raw: &str) -> Vec<Item> {
    let unknown = || vec![bad(raw.to_owned(), "not a part of a webhook call")];
    let Ok(part) = serde_json::from_str::<&RawValue>(raw) else {
        return read_webhook(account, raw.as_bytes());
    };
    let Ok(fields) = serde_json::from_str::<HashMap<String, IgnoredAny>>(raw) else {
        return unknown();
    };
    let has = |field: &str| fields.contains_key(field);
    let mut items = Vec::new();
    let item = |what| {
        vec![Item {
            raw: raw.to_owned(),
            what,
        }]
    };
    if has("object") {
        return read_webhook(account, raw.as_bytes());
    } else if has("changes") {
        entered(account, part, &mut items);
    } else if has("field") {
        changed(account, part, &mut items);
    } else if has("status") {
        return item(read_receipt(raw).map(What::Receipt));
    } else if has("from") || has("type") {
        return item(message(raw, &HashMap::new()).map(What::Message));
    } else {
        return unknown();
    }
    items
}

fn entered(account: &Account, raw: &RawValue, items: &mut Vec<Item>) {
    match serde_json::from_str::<Entry<'_>>(raw.get()) {
        Ok(read) => {
            for change in read.changes {
                changed(account, change, items);
            }
        }
        Err(_) => items.push(bad(raw.get().to_owned(), "an entry that cannot be read")),
    }
}

fn changed(account: &Account, raw: &RawValue, items: &mut Vec<Item>) {
    let unreadable = |why| bad(raw.get().to_owned(), why);
    let Ok(change) = serde_json::from_str::<Change<'_>>(raw.get()) else {
        return items.push(unreadable("a change that cannot be read"));
    };
    if change.field != "messages" {
        return items.push(unreadable("a change that we did not ask for"));
    }
    let Ok(value) = serde_json::from_str::<Value<'_>>(change.value.get()) else {
        return items.push(unreadable("a change that cannot be read"));
    };
    if value.metadata.phone_number_id != account.phone_number_id {
        return items.push(unreadable("about another number than this account's"));
    }
    let names = names(&value.contacts);
    let item = |raw: &RawValue, what: Result<What, Unreadable>| Item {
        raw: raw.get().to_owned(),
        what,
    };
    let errors = value.errors.iter();
    items.extend(errors.map(|raw| item(raw, Err(Unreadable("an error on the provider's side")))));
    let messages = value.messages.iter();
    items.extend(messages.map(|raw| item(raw, message(raw.get(), &names).map(What::Message))));
    let statuses = value.statuses.iter();
    items.extend(statuses.map(|raw| item(raw, read_receipt(raw.get()).map(What::Receipt))));
}

fn bad(raw: String, why: &'static str) -> Item {
    Item {
        raw,
        what: Err(Unreadable(why)),
    }
}

/// What people call themselves, by number. A contact that cannot be read has no name.
fn names(contacts: &[&RawValue]) -> HashMap<String, Text> {
    let contacts = contacts.iter();
    contacts
        .filter_map(|raw| {
            let contact = Contact::deserialize(*raw).ok()?;
            let name = without_nul(contact.profile?.name?);
            let name: String = name.chars().take(MAX_NAME_CHARS).collect();
            Some((contact.wa_id?, Text::parse(name, MAX_NAME_CHARS).ok()?))
        })
        .collect()
}

fn message(raw: &str, names: &HashMap<String, Text>) -> Result<Incoming, Unreadable> {
    let message: Message =
        serde_json::from_str(raw).map_err(|_| Unreadable("a message that cannot be read"))?;
    let from = message.from.as_deref();
    let from = from.ok_or(Unreadable("a message from somebody without a number"))?;
    let address = Address::parse(ChannelKind::WhatsApp, from)
        .map_err(|_| Unreadable("a message from something that is no number"))?;
    if message.id.is_empty() {
        return Err(Unreadable("a message without an id"));
    }
    let quotes = message
        .context
        .as_ref()
        .and_then(|context| context.id.clone());
    Ok(Incoming {
        content: content(&message),
        at: at(&message.timestamp)?,
        name: names.get(from).cloned(),
        from: address,
        quotes,
        provider_id: message.id,
    })
}

/// A text as it was written, as far as we can keep it; a placeholder for everything else.
fn content(message: &Message) -> Content {
    let text = match (&*message.r#type, &message.text) {
        ("text", Some(text)) => {
            let text: String = without_nul(text.body.clone())
                .chars()
                .take(Text::MAX_CHARS)
                .collect();
            Text::parse(text, Text::MAX_CHARS).ok()
        }
        _ => None,
    };
    match text {
        Some(text) => Content::Text { text },
        None => Content::Unsupported {
            what: word(&message.r#type),
        },
    }
}

/// The provider's word for a type, if it looks like one.
fn word(what: &str) -> String {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    if !what.is_empty() && what.len() <= MAX_TYPE_CHARS && what.chars().all(plain) {
        what.to_owned()
    } else {
        "unknown".to_owned()
    }
}

/// Neither Postgres nor our own texts can carry U+0000.
fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// Reads one status.
///
/// # Errors
/// [`Unreadable`].
pub fn read_receipt(raw: &str) -> Result<Report, Unreadable> {
    let status: Status =
        serde_json::from_str(raw).map_err(|_| Unreadable("a status that cannot be read"))?;
    if status.id.is_empty() {
        return Err(Unreadable("a status without an id"));
    }
    let step = match &*status.status {
        "sent" => Some(Step::Sent),
        "delivered" => Some(Step::Delivered),
        // `played` is what becomes of a voice message that was read.
        "read" | "played" => Some(Step::Read),
        "failed" => Some(failed(&status)),
        "deleted" => None,
        _ => return Err(Unreadable("a status that we do not know")),
    };
    let echoed = status.biz_opaque_callback_data.as_deref();
    Ok(Report {
        step,
        at: at(&status.timestamp)?,
        echoed: echoed.and_then(|text| text.parse().ok()),
        provider_id: status.id,
    })
}

fn failed(status: &Status) -> Step {
    match status.errors.first() {
        Some(said) => {
            let refusal = error::of_code(said.code, 400, said.words());
            Step::Failed {
                class: refusal.class,
                reason: refusal.reason,
                provider_code: refusal.code,
                provider_text: refusal.text,
            }
        }
        None => Step::Failed {
            class: FailureClass::Permanent,
            reason: Reason::Unknown,
            provider_code: None,
            provider_text: None,
        },
    }
}

/// Seconds since 1970, as text.
fn at(seconds: &str) -> Result<Timestamp, Unreadable> {
    let seconds: i64 = seconds
        .parse()
        .map_err(|_| Unreadable("a time that is no number of seconds"))?;
    Ok(Timestamp::from_unix_ms(seconds.saturating_mul(1_000)))
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
