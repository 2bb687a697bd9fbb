//! What a call asks for, or the error the Cloud API has for it.

use serde_json::{Map, Value};

use super::error::GraphError;

/// Longest text of one message, in characters. Source: WhatsApp Cloud API, text messages.
const MAX_TEXT_CHARS: usize = 4_096;
/// The types the Cloud API knows. Only text is played.
const TYPES: [&str; 11] = [
    "AUDIO",
    "CONTACTS",
    "DOCUMENT",
    "IMAGE",
    "INTERACTIVE",
    "LOCATION",
    "REACTION",
    "STICKER",
    "TEMPLATE",
    "TEXT",
    "VIDEO",
];

/// A call that is in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A text message.
    Text {
        /// `to` as it was written.
        input: String,
        /// Its digits.
        number: String,
        text: String,
        /// The message this one answers.
        reply_to: Option<String>,
        /// Comes back in every status of the message.
        callback_data: Option<String>,
    },
    /// "I have read this message", and perhaps "I am typing".
    MarkRead { message_id: String, typing: bool },
}

type Fields = Map<String, Value>;

impl Request {
    /// Reads a call to the number whose digits are `sender`.
    pub(crate) fn parse(body: &[u8], sender: &str) -> Result<Self, GraphError> {
        // A body that is no JSON object is one without parameters to the Graph API.
        let fields: Fields = serde_json::from_slice(body).unwrap_or_default();
        match required_text(&fields, "messaging_product", "messaging_product")? {
            "whatsapp" => {}
            other => {
                return Err(GraphError::parameter(&format!(
                    "Param messaging_product must be one of {{WHATSAPP}} - got {other:?}."
                )));
            }
        }
        if fields.contains_key("status") {
            mark_read(&fields)
        } else {
            message(&fields, sender)
        }
    }
}

fn mark_read(fields: &Fields) -> Result<Request, GraphError> {
    only(
        fields,
        "",
        &[
            "messaging_product",
            "status",
            "message_id",
            "typing_indicator",
        ],
    )?;
    if required_text(fields, "status", "status")? != "read" {
        return Err(GraphError::parameter("Param status must be one of {READ}."));
    }
    let message_id = required_text(fields, "message_id", "message_id")?;
    if !message_id.starts_with("wamid.") {
        return Err(GraphError::with_details(131009, "Message id is not valid."));
    }
    let typing = match object(fields, "typing_indicator")? {
        None => false,
        Some(indicator) => {
            only(indicator, "typing_indicator", &["type"])?;
            if required_text(indicator, "type", "typing_indicator['type']")? != "text" {
                return Err(GraphError::parameter(
                    "Param typing_indicator['type'] must be one of {TEXT}.",
                ));
            }
            true
        }
    };
    Ok(Request::MarkRead {
        message_id: message_id.to_owned(),
        typing,
    })
}

fn message(fields: &Fields, sender: &str) -> Result<Request, GraphError> {
    let known = [
        "messaging_product",
        "recipient_type",
        "to",
        "type",
        "text",
        "context",
        "biz_opaque_callback_data",
    ];
    let kind = optional_text(fields, "type", "type")?
        .unwrap_or("text")
        .to_uppercase();
    if !TYPES.contains(&kind.as_str()) {
        return Err(GraphError::parameter(&format!(
            "Param type must be one of {{{}}} - got {kind:?}.",
            TYPES.join(", ")
        )));
    }
    if kind != "TEXT" {
        return Err(GraphError::of_code(131051));
    }
    only(fields, "", &known)?;
    if optional_text(fields, "recipient_type", "recipient_type")?
        .is_some_and(|kind| kind != "individual")
    {
        return Err(GraphError::parameter(
            "Param recipient_type must be one of {INDIVIDUAL}.",
        ));
    }
    let input = required_text(fields, "to", "to")?;
    let number = recipient(input, sender)?;
    let text = text(fields)?;
    let reply_to = match object(fields, "context")? {
        None => None,
        Some(context) => {
            only(context, "context", &["message_id"])?;
            Some(required_text(context, "message_id", "context['message_id']")?.to_owned())
        }
    };
    Ok(Request::Text {
        input: input.to_owned(),
        number,
        text,
        reply_to,
        callback_data: optional_text(
            fields,
            "biz_opaque_callback_data",
            "biz_opaque_callback_data",
        )?
        .map(str::to_owned),
    })
}

fn text(fields: &Fields) -> Result<String, GraphError> {
    let Some(text) = object(fields, "text")? else {
        return Err(GraphError::with_details(
            131008,
            "Parameter 'text' is mandatory for type 'text'.",
        ));
    };
    only(text, "text", &["body", "preview_url"])?;
    if text
        .get("preview_url")
        .is_some_and(|flag| !flag.is_boolean())
    {
        return Err(GraphError::parameter(
            "Param text['preview_url'] must be a boolean.",
        ));
    }
    let body = required_text(text, "body", "text['body']")?;
    if body.trim().is_empty() {
        return Err(GraphError::parameter(
            "The parameter text['body'] is required.",
        ));
    }
    if body.chars().count() > MAX_TEXT_CHARS {
        return Err(GraphError::parameter(&format!(
            "Param text['body'] must be at most {MAX_TEXT_CHARS} characters long."
        )));
    }
    Ok(body.to_owned())
}

/// The digits of `input`: written with or without `+`, spaces, dashes and brackets.
fn recipient(input: &str, sender: &str) -> Result<String, GraphError> {
    let Some(number) = digits(input) else {
        return Err(GraphError::with_details(
            131009,
            "Recipient is not a phone number.",
        ));
    };
    if !(7..=15).contains(&number.len()) || number.starts_with('0') {
        return Err(GraphError::of_code(131026));
    }
    if number == sender {
        return Err(GraphError::of_code(131021));
    }
    Ok(number)
}

/// The digits of a number as people write it; None if something else stands in it.
pub(crate) fn digits(input: &str) -> Option<String> {
    let mut digits = String::with_capacity(15);
    for (at, letter) in input.trim().char_indices() {
        match letter {
            '0'..='9' => digits.push(letter),
            '+' if at == 0 => {}
            ' ' | '-' | '(' | ')' | '.' => {}
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some(digits)
}

/// Where the call goes, read leniently: faults by number hold for calls that are not in order too.
pub(crate) fn recipient_of(body: &[u8]) -> Option<String> {
    let fields: Fields = serde_json::from_slice(body).ok()?;
    digits(fields.get("to")?.as_str()?)
}

fn required_text<'a>(fields: &'a Fields, key: &str, name: &str) -> Result<&'a str, GraphError> {
    optional_text(fields, key, name)?
        .ok_or_else(|| GraphError::parameter(&format!("The parameter {name} is required.")))
}

fn optional_text<'a>(
    fields: &'a Fields,
    key: &str,
    name: &str,
) -> Result<Option<&'a str>, GraphError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(GraphError::parameter(&format!(
            "Param {name} must be a string."
        ))),
    }
}

fn object<'a>(fields: &'a Fields, key: &str) -> Result<Option<&'a Fields>, GraphError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(GraphError::parameter(&format!(
            "Param {key} must be a JSON object."
        ))),
    }
}

/// Refuses a key that `parent` ("" at the top) does not have.
fn only(fields: &Fields, parent: &str, known: &[&str]) -> Result<(), GraphError> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) if parent.is_empty() => Err(GraphError::with_details(
            100,
            format!("Unexpected key {key:?}."),
        )),
        Some(key) => Err(GraphError::with_details(
            100,
            format!("Unexpected key {key:?} on param {parent:?}."),
        )),
    }
}
