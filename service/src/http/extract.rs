//! Extractors whose refusals are problems: what was wrong, where, and what would be right.

use axum::body::{Bytes, HttpBody};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exact::Exact;
use super::explain::{explain, json_problem};
use super::others::with_others;
use crate::problem::{Code, Problem};

/// What is said to a body beyond the limit.
pub(super) const TOO_LARGE: &str = "The body is larger than this route takes: at most `http.body_limit_bytes` (262144 unless set), of a webhook `bridges.webhook_body_limit_bytes`.";

/// A JSON body, which is an object. Other content types are 415, a body that is not JSON 400, one that does not fit 422 with a
/// pointer to each mistake.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// The parameters behind `?`. What does not fit is 422 with the parameter's name.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

/// The parameters in the path. What does not fit is 422 with the parameter's name.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

/// The body as it came, within the limit.
#[derive(Clone, Debug)]
pub struct Body(pub Bytes);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "The body must be JSON, with the header `Content-Type: application/json`.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        let Body(bytes) = Body::from_request(request, state).await?;
        read(&bytes)
            .map(Self)
            .map_err(|first| with_others::<T>(&bytes, first))
    }
}

/// A body that may be left out: none at all is `None`, every other is read as above.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state)
            .await
            .map(Some)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.contains(&b'[') {
        no_list_for_an_object::<T>(bytes)?;
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| json_problem(error.path(), error.inner()))?;
    json.end().map_err(|_| {
        Problem::new(
            Code::Malformed,
            "Something follows the JSON value; there must be one only.",
        )
    })?;
    Ok(value)
}

/// The library would read a list as an object's fields in their order; that is not what the API's document says. Only a
/// body with a list in it is read twice: here what is wrong anywhere in it is said, and what is fine is read again by the
/// library itself, which also notices a field that is there twice.
fn no_list_for_an_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<(), Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let body: Value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| json_problem(error.path(), error.inner()))?;
    serde_path_to_error::deserialize::<_, T>(Exact(body))
        .map(drop)
        .map_err(|error| json_problem(error.path(), error.inner()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state)
            .await
            .map(Self)
            .map_err(|refused: BytesRejection| {
                if refused.status() == StatusCode::PAYLOAD_TOO_LARGE {
                    Problem::new(Code::PayloadTooLarge, TOO_LARGE)
                } else {
                    Problem::new(Code::Malformed, "The body ended before it was complete.")
                }
            })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(refused) => Err(query_problem(&refused)),
        }
    }
}

/// The refusal's cause says `parameter: what is wrong`, or only what is wrong.
fn query_problem(refused: &QueryRejection) -> Problem {
    let said = std::error::Error::source(refused)
        .map(ToString::to_string)
        .unwrap_or_default();
    let names = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let (parameter, message) = match said.split_once(": ") {
        Some((name, message)) if names(name) => (name, message),
        _ => ("", said.as_str()),
    };
    let explained = explain(message);
    let parameter = explained.field.as_deref().unwrap_or(parameter);
    Problem::field(
        format!("/{parameter}"),
        format!("query parameter: {}", explained.detail),
    )
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(refused) => Err(path_problem(refused)),
        }
    }
}

fn path_problem(refused: PathRejection) -> Problem {
    let PathRejection::FailedToDeserializePathParams(failed) = refused else {
        tracing::error!("a handler asks for path parameters that its route does not have");
        return Problem::internal();
    };
    let (parameter, detail) = match failed.into_kind() {
        ErrorKind::ParseErrorAtKey {
            key, expected_type, ..
        } => (key, format!("expected {expected_type}")),
        ErrorKind::DeserializeError { key, message, .. } => (key, explain(&message).detail),
        ErrorKind::InvalidUtf8InPathParam { key } => (key, "is not UTF-8".to_owned()),
        ErrorKind::Message(message) => (String::new(), explain(&message).detail),
        _ => (String::new(), "does not fit the route".to_owned()),
    };
    Problem::field(format!("/{parameter}"), format!("path parameter: {detail}"))
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
