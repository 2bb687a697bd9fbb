//! The wire shapes. Unknown fields are ignored: the provider adds some without a word.

use chat4all_domain::delivery::Words;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Body of a text message that is sent.
#[derive(Debug, Serialize)]
pub struct TextMessage<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    to: &'a str,
    r#type: &'static str,
    text: TextBody<'a>,
    /// Comes back in every status of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    biz_opaque_callback_data: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct TextBody<'a> {
    preview_url: bool,
    body: &'a str,
}

impl<'a> TextMessage<'a> {
    /// A text to a number in digits.
    pub const fn new(to: &'a str, body: &'a str, callback_data: Option<&'a str>) -> Self {
        Self {
            messaging_product: "whatsapp",
            recipient_type: "individual",
            to,
            r#type: "text",
            text: TextBody {
                preview_url: false,
                body,
            },
            biz_opaque_callback_data: callback_data,
        }
    }
}

/// Answer to a send: ids, or an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The ids given.
    pub messages: Vec<Sent>,
    /// Why not.
    pub error: Option<ErrorBody>,
}

/// One id.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// `wamid.…`.
    pub id: String,
}

/// An error, in answers and in statuses alike.
#[derive(Debug, Deserialize)]
pub struct ErrorBody {
    /// What decides.
    pub code: i64,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    error_data: Option<ErrorData>,
}

#[derive(Debug, Deserialize)]
struct ErrorData {
    #[serde(default)]
    details: Option<String>,
}

impl ErrorBody {
    /// The provider's own words, the most telling ones.
    pub fn words(&self) -> Option<Words> {
        let details = self
            .error_data
            .as_ref()
            .and_then(|data| data.details.as_ref());
        let words = details.or(self.message.as_ref()).or(self.title.as_ref())?;
        Some(Words(words.chars().take(1_000).collect()))
    }
}

/// A webhook call. Lists hold raw items, so that one that cannot be read does not take the others along.
#[derive(Debug, Deserialize)]
pub struct Call<'a> {
    /// `whatsapp_business_account`.
    pub object: String,
    /// One per business account.
    #[serde(borrow, default)]
    pub entry: Vec<&'a RawValue>,
}

/// One business account's changes.
#[derive(Debug, Deserialize)]
pub struct Entry<'a> {
    /// What changed.
    #[serde(borrow, default)]
    pub changes: Vec<&'a RawValue>,
}

/// One change.
#[derive(Debug, Deserialize)]
pub struct Change<'a> {
    /// `messages`, and others that an app may subscribe to.
    #[serde(default)]
    pub field: String,
    /// What it is.
    #[serde(borrow)]
    pub value: &'a RawValue,
}

/// What is new for one of our numbers.
#[derive(Debug, Deserialize)]
pub struct Value<'a> {
    /// Which number.
    pub metadata: Metadata,
    /// Who wrote.
    #[serde(borrow, default)]
    pub contacts: Vec<&'a RawValue>,
    /// What they wrote.
    #[serde(borrow, default)]
    pub messages: Vec<&'a RawValue>,
    /// How it went with what we sent.
    #[serde(borrow, default)]
    pub statuses: Vec<&'a RawValue>,
    /// What went wrong on the provider's side.
    #[serde(borrow, default)]
    pub errors: Vec<&'a RawValue>,
}

/// Which of our numbers.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Its id.
    pub phone_number_id: String,
}

/// Somebody who wrote.
#[derive(Debug, Deserialize)]
pub struct Contact {
    /// Their number.
    #[serde(default)]
    pub wa_id: Option<String>,
    /// What they call themselves.
    #[serde(default)]
    pub profile: Option<Profile>,
}

/// What somebody calls themselves.
#[derive(Debug, Deserialize)]
pub struct Profile {
    /// Their name.
    #[serde(default)]
    pub name: Option<String>,
}

/// A message from a customer.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// `wamid.…`.
    pub id: String,
    /// Their number. Missing for those who hide it.
    #[serde(default)]
    pub from: Option<String>,
    /// Seconds since 1970, as text.
    pub timestamp: String,
    /// `text`, `image`, …
    pub r#type: String,
    /// Of a text.
    #[serde(default)]
    pub text: Option<Body>,
    /// The message it answers.
    #[serde(default)]
    pub context: Option<Context>,
}

/// A text.
#[derive(Debug, Deserialize)]
pub struct Body {
    /// The text itself.
    pub body: String,
}

/// The message that one answers.
#[derive(Debug, Deserialize)]
pub struct Context {
    /// Its id.
    #[serde(default)]
    pub id: Option<String>,
}

/// How it went with something we sent.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// `wamid.…`.
    pub id: String,
    /// `sent`, `delivered`, `read`, `failed`, …
    pub status: String,
    /// Seconds since 1970, as text.
    pub timestamp: String,
    /// Why it failed.
    #[serde(default)]
    pub errors: Vec<ErrorBody>,
    /// What we sent along.
    #[serde(default)]
    pub biz_opaque_callback_data: Option<String>,
}
