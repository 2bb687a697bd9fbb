//! What goes wrong, told to clients: RFC 9457 problem details, one vocabulary for every API.
//!
//! A problem has a stable code to branch on and a safe sentence to read. Causes go to the log, never into the body; the
//! trace id joins the two. Nothing of a request's content is repeated, save the names of its fields.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::telemetry::trace;

/// The content type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Declares the codes: name on the wire, status, title.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $code:ident = $name:literal, $status:ident, $title:literal;)+) => {
        /// What kind of problem it is. The name is stable: clients branch on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])+ $code),+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$code),+];

            /// The name on the wire, such as `not_found`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $name),+ }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status),+ }
            }

            /// What it is, in a few words; the same for every problem of the kind.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title),+ }
            }
        }
    };
}

codes! {
    /// The request cannot be read at all.
    Malformed = "malformed", BAD_REQUEST, "The request cannot be read";
    /// No token, or not a valid one.
    Unauthorized = "unauthorized", UNAUTHORIZED, "A valid token is needed";
    /// The token lacks a scope.
    Forbidden = "forbidden", FORBIDDEN, "The token does not allow this";
    /// It does not exist, or not for this caller.
    NotFound = "not_found", NOT_FOUND, "There is no such thing";
    /// The path is right, the method is not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// The request does not fit the present state.
    Conflict = "conflict", CONFLICT, "The request does not fit the present state";
    /// What is shown is too old to be brought up to date; it has to be loaded anew, or followed from where it stands.
    Resync = "resync", GONE, "What is shown must be brought up to date";
    /// The body is larger than the limit.
    PayloadTooLarge = "payload_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body is not what its route takes.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The content type is not supported";
    /// The request can be read, but something in it is not right.
    Validation = "validation", UNPROCESSABLE_ENTITY, "Something in the request is not right";
    /// The same key came before with another content.
    IdempotencyMismatch = "idempotency_mismatch", UNPROCESSABLE_ENTITY, "The key was used for something else";
    /// Too many requests from this caller.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    /// A fault of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    /// Something that is needed is away; nothing was done.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The service is not available now";
    /// It may or may not have been done; repeating is safe.
    UnknownOutcome = "unknown_outcome", SERVICE_UNAVAILABLE, "The outcome is not known";
    /// Reads have not come as far as asked.
    NotYetProjected = "not_yet_projected", SERVICE_UNAVAILABLE, "Reads have not come that far yet";
    /// It took too long.
    Timeout = "timeout", GATEWAY_TIMEOUT, "It took too long";
    /// The log takes no new messages.
    LogFull = "log_full", INSUFFICIENT_STORAGE, "The log is full";
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer into the body such as `/content/text`; for parameters, `/` and the name.
    pub pointer: String,
    /// What was wrong and what would be right.
    pub detail: String,
}

/// One problem. As a response it is `application/problem+json`, with the trace id of the request it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    more: BTreeMap<&'static str, Value>,
}

impl Problem {
    /// A problem of this kind; the detail says what was wrong and what would be right, and nothing that is secret.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: vec![],
            retry_after: None,
            more: BTreeMap::new(),
        }
    }

    /// Something is wrong with one field. `pointer` is a JSON pointer such as `/content/text`.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(
            Code::Validation,
            "See `errors` for what is wrong and what would be right.",
        )
        .and_field(pointer, detail)
    }

    /// And with this field too.
    pub fn and_field(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        });
        self
    }

    /// A fault of ours. The cause belongs in the log.
    pub fn internal() -> Self {
        Self::new(
            Code::Internal,
            "This is a fault of ours; the trace id helps to find it.",
        )
    }

    /// Trying again makes sense after this time; sent as `Retry-After`, rounded up to whole seconds.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// With a member of its own, such as the position that reads have reached.
    pub fn with(mut self, member: &'static str, value: impl Into<Value>) -> Self {
        self.more.insert(member, value.into());
        self
    }

    /// What kind of problem it is.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What was wrong and what would be right.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What is wrong with which field.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The body, with the id of the current trace.
    pub fn to_json(&self) -> Value {
        let status = self.code.status().as_u16();
        let mut body = Map::new();
        body.insert(
            "type".to_owned(),
            format!("urn:chat4all:problem:{}", self.code.as_str()).into(),
        );
        body.insert("title".to_owned(), self.code.title().into());
        body.insert("status".to_owned(), status.into());
        body.insert("detail".to_owned(), self.detail.as_ref().into());
        body.insert("code".to_owned(), self.code.as_str().into());
        let errors: Vec<Value> = self
            .errors
            .iter()
            .map(|error| serde_json::json!({ "pointer": error.pointer, "detail": error.detail }))
            .collect();
        if !errors.is_empty() {
            body.insert("errors".to_owned(), errors.into());
        }
        if let Some(id) = trace::trace_id() {
            body.insert("trace_id".to_owned(), id.into());
        }
        for (member, value) in &self.more {
            body.insert((*member).to_owned(), value.clone());
        }
        Value::Object(body)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content = [(header::CONTENT_TYPE, CONTENT_TYPE)];
        let mut response =
            (self.code.status(), content, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.code);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_every_member_that_clients_rely_on() {
        let problem = Problem::field("/content/text", "is blank; it needs at least one letter")
            .and_field("/message_id", "is not a UUID")
            .with("position", "07-12");
        insta::assert_json_snapshot!(problem.to_json());
    }

    #[tokio::test]
    async fn headers_say_what_a_client_can_do() {
        let away = Problem::new(Code::Unavailable, "The log is away.")
            .retry_after(Duration::from_millis(1_200))
            .into_response();
        assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(away.headers()[header::RETRY_AFTER], "2");
        assert_eq!(away.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
        let stranger = Problem::new(Code::Unauthorized, "The token has expired.").into_response();
        assert_eq!(stranger.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn the_table_of_codes() {
        let table: Vec<String> = Code::ALL
            .iter()
            .map(|code| {
                format!(
                    "{} {} {}",
                    code.status().as_u16(),
                    code.as_str(),
                    code.title()
                )
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }
}
