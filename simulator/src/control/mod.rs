//! The control API below `/_sim`: knobs, records, phones. Unknown fields and parameters are refused with a sentence.

mod accounts;
mod faults;
mod phones;
mod records;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::world::World;

/// The routes of the control API and the page.
pub(crate) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route(
            "/",
            get(|| async { Html(include_str!("../page/index.html")) }),
        )
        .route("/_sim/accounts", get(accounts::list))
        .route(
            "/_sim/accounts/{phone_number_id}",
            put(accounts::put).patch(accounts::patch),
        )
        .route(
            "/_sim/accounts/{phone_number_id}/subscribe",
            post(accounts::subscribe),
        )
        .route(
            "/_sim/faults",
            get(faults::list).post(faults::add).delete(faults::clear),
        )
        .route("/_sim/faults/{id}", delete(faults::remove))
        .route(
            "/_sim/settings",
            get(faults::settings).patch(faults::set_settings),
        )
        .route("/_sim/seed", get(faults::seed).put(faults::set_seed))
        .route("/_sim/calls", get(records::calls))
        .route("/_sim/webhooks", get(records::webhooks))
        .route("/_sim/stats", get(records::stats))
        .route("/_sim/reset", post(records::reset))
        .route("/_sim/phones", get(phones::list))
        .route(
            "/_sim/phones/{number}",
            get(phones::view).patch(phones::rename),
        )
        .route("/_sim/phones/{number}/messages", post(phones::write_in))
        .route("/_sim/phones/{number}/shown", post(phones::shown))
        .route(
            "/_sim/{*rest}",
            get(not_here)
                .post(not_here)
                .put(not_here)
                .patch(not_here)
                .delete(not_here),
        )
}

async fn not_here() -> Refusal {
    Refusal::not_found("no such place in the control API")
}

/// A refusal of the control API: `{"error": "<sentence>"}`.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    sentence: String,
}

impl Refusal {
    fn invalid(sentence: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            sentence: sentence.into(),
        }
    }
    fn not_found(sentence: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            sentence: sentence.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        answer(self.status, &json!({"error": self.sentence}))
    }
}

/// A JSON answer.
fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, [("content-type", "application/json")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer of the control API cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn ok(body: &impl Serialize) -> Response {
    answer(StatusCode::OK, body)
}

/// Reads a body; what is wrong with it is said by name.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))
}

/// Replaces in `old` the fields that `patch` has.
fn patched<T: Serialize + DeserializeOwned>(old: &T, patch: &[u8]) -> Result<T, Refusal> {
    let changes: serde_json::Map<String, serde_json::Value> = parse(patch)?;
    let mut fields =
        serde_json::to_value(old).map_err(|error| Refusal::invalid(error.to_string()))?;
    for (key, value) in changes {
        fields[key] = value;
    }
    serde_json::from_value(fields).map_err(|error| Refusal::invalid(error.to_string()))
}

/// A customer's number from a path.
fn number(text: &str) -> Result<String, Refusal> {
    crate::graph::digits(text)
        .filter(|digits| (7..=15).contains(&digits.len()))
        .ok_or_else(|| Refusal::invalid("a phone number has 7 to 15 digits"))
}
