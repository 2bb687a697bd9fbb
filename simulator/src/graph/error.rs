//! The error body of the Graph API, made in one place.

use serde_json::{Value, json};

use super::codes;
use crate::wamid::fbtrace_id;

/// An error as the Graph API answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphError {
    pub(crate) status: u16,
    pub(crate) code: u32,
    message: String,
    kind: &'static str,
    subcode: Option<u32>,
    details: Option<String>,
}

impl GraphError {
    /// The documented error of that code.
    pub(crate) fn of_code(code: u32) -> Self {
        let row = codes::lookup(code);
        // Errors of authentication come without the number in front.
        let message = match code {
            0 | 190 => row.title.to_owned(),
            _ => format!("(#{code}) {}", row.title),
        };
        Self {
            status: row.status,
            code,
            message,
            kind: "OAuthException",
            subcode: None,
            details: row.details.map(str::to_owned),
        }
    }
    /// The documented error of that code, with details of this very request.
    pub(crate) fn with_details(code: u32, details: impl Into<String>) -> Self {
        Self {
            details: Some(details.into()),
            ..Self::of_code(code)
        }
    }
    /// Code 100 as the Graph API itself reports a parameter, without `error_data`.
    pub(crate) fn parameter(sentence: &str) -> Self {
        Self {
            message: format!("(#100) {sentence}"),
            details: None,
            ..Self::of_code(100)
        }
    }
    /// No bearer token at all.
    pub(crate) fn no_token() -> Self {
        Self {
            message: "Authentication Error".to_owned(),
            ..Self::of_code(190)
        }
    }
    /// A token that was good once.
    pub(crate) fn token_expired() -> Self {
        Self {
            message: "Error validating access token: Session has expired.".to_owned(),
            subcode: Some(463),
            ..Self::of_code(190)
        }
    }
    /// A phone number id that does not exist, or is not the token's: the Graph API does not tell which.
    pub(crate) fn unknown_object(id: &str) -> Self {
        Self {
            status: 400,
            code: 100,
            message: format!(
                "Unsupported post request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api"
            ),
            kind: "GraphMethodException",
            subcode: Some(33),
            details: None,
        }
    }
    /// A path the Graph API does not have.
    pub(crate) fn unknown_path(path: &str) -> Self {
        Self {
            message: format!("Unknown path components: {path}"),
            details: None,
            ..Self::of_code(2500)
        }
    }
    /// The same error with another text, details or status.
    pub(crate) fn changed(
        mut self,
        status: Option<u16>,
        message: Option<&str>,
        details: Option<&str>,
    ) -> Self {
        self.status = status.unwrap_or(self.status);
        if let Some(message) = message {
            self.message = message.to_owned();
        }
        if let Some(details) = details {
            self.details = Some(details.to_owned());
        }
        self
    }
    /// The body, with a trace id of its own each time.
    pub(crate) fn body(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "fbtrace_id": fbtrace_id(),
        });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = subcode.into();
        }
        if let Some(details) = &self.details {
            error["error_data"] = json!({"messaging_product": "whatsapp", "details": details});
        }
        json!({"error": error})
    }
}

/// The element of `errors[]` in a webhook that reports `code`.
pub(crate) fn webhook_error(code: u32) -> Value {
    let row = codes::lookup(code);
    json!({
        "code": code,
        "title": row.title,
        "message": row.title,
        "error_data": {"details": row.details.unwrap_or(row.title)},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    })
}
