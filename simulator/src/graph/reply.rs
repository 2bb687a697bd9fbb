//! How a decided reply reaches the caller, or does not.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::connection::Cut;
use crate::wamid::fbtrace_id;
use crate::webhook::Item;
use crate::world::World;

/// A call that is never answered is cut off after this long.
const HANG: Duration = Duration::from_secs(300);
/// An early receipt may hold up the answer this long.
const EARLY_WAIT: Duration = Duration::from_secs(5);

/// What the caller gets, decided at arrival.
pub(super) enum Reply {
    Json {
        status: u16,
        body: Value,
        retry_after_s: Option<u32>,
    },
    Raw {
        status: u16,
        body: String,
        retry_after_s: Option<u32>,
    },
    Cut {
        reset: bool,
    },
    Never,
}

/// A reply with what has to happen before it.
pub(super) struct Outcome {
    pub(super) reply: Reply,
    pub(super) latency_ms: u64,
    /// Receipts that come first.
    pub(super) early: Vec<Arc<Item>>,
}

impl Outcome {
    pub(super) fn now(reply: Reply) -> Self {
        Self {
            reply,
            latency_ms: 0,
            early: Vec::new(),
        }
    }
}

/// Waits as long as it should take, and answers.
pub(super) async fn send(world: &World, cut: &Cut, version: &str, outcome: Outcome) -> Response {
    let early = async {
        for item in &outcome.early {
            item.tried().await;
        }
    };
    if !outcome.early.is_empty() {
        // Late is better than never: the answer does not depend on our webhook for good.
        let _late = tokio::time::timeout(EARLY_WAIT, early).await;
    }
    pause(world, Duration::from_millis(outcome.latency_ms)).await;
    match outcome.reply {
        Reply::Json {
            status,
            body,
            retry_after_s,
        } => json(status, &body, retry_after_s, version),
        Reply::Raw {
            status,
            body,
            retry_after_s,
        } => raw(status, body, retry_after_s),
        Reply::Cut { reset } => {
            cut.now(reset);
            StatusCode::NO_CONTENT.into_response()
        }
        Reply::Never => {
            pause(world, HANG).await;
            cut.now(true);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

/// Sleeps, but not through a shutdown.
async fn pause(world: &World, duration: Duration) {
    if !duration.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(duration) => {}
            () = world.shutdown.cancelled() => {}
        }
    }
}

pub(super) fn json(
    status: u16,
    body: &Value,
    retry_after_s: Option<u32>,
    version: &str,
) -> Response {
    let mut response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json; charset=UTF-8")
        .header("x-fb-trace-id", fbtrace_id());
    if !version.is_empty() {
        response = response.header("facebook-api-version", version);
    }
    if status == 401 {
        response = response.header(
            WWW_AUTHENTICATE,
            "OAuth \"Facebook Platform\" \"invalid_token\"",
        );
    }
    if let Some(seconds) = retry_after_s {
        response = response.header(RETRY_AFTER, seconds);
    }
    finish(response, body.to_string())
}

fn raw(status: u16, body: String, retry_after_s: Option<u32>) -> Response {
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after_s {
        response = response.header(RETRY_AFTER, seconds);
    }
    finish(response, body)
}

/// A path segment may hold what a header must not: then the caller gets a plain 400.
fn finish(response: axum::http::response::Builder, body: String) -> Response {
    response
        .body(Body::from(body))
        .unwrap_or_else(|_| StatusCode::BAD_REQUEST.into_response())
}
