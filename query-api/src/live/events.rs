//! Server-sent events, for those without WebSockets: `GET /v1/events` and `…/conversations/{conversation_id}/events`.
//!
//! ```text
//! id: 07-1234
//! event: update
//! data: {"position":"07-1234","events":[{"type":"new_message",…}]}
//! ```
//! `id` is the cursor; whoever comes back with it in `Last-Event-ID` (browsers do) or `?after=` gets what came since. An `id`
//! alone says that the client has come that far and nothing was for it. `event: end` is the last one, with a problem as its
//! data: `resync` for who did not take what there was, `unauthorized` when the token has expired.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use chat4all_domain::ConversationId;
use chat4all_service::Problem;
use chat4all_service::auth::{self, Caller};
use chat4all_service::http::{Path, Query};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::LiveUpdate;
use super::socket::{expiry, who};
use super::{Connection, Live, Topic, Update, ended};
use crate::api;
use crate::rest::ProblemBody;

/// A comment goes out when nothing else did for this long: proxies and clients see that the connection is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The header that a client comes back with.
const LAST_EVENT_ID: &str = "last-event-id";

/// The routes with their document.
pub fn routes() -> OpenApiRouter<api::State> {
    OpenApiRouter::new()
        .routes(routes!(of_all))
        .routes(routes!(of_one))
}

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Behind this cursor: the `id` of an event; for one conversation also a position. `Last-Event-ID` goes before it.
    after: Option<String>,
    /// The bearer token of who cannot set headers, as a browser's `EventSource`. `Authorization` goes before it.
    #[serde(rename = "token")]
    #[param(value_type = Option<String>)]
    _token: Option<IgnoredAny>,
}

/// Who follows: by the header `Authorization`, else by `?token=`.
pub struct Follower(Caller);

impl FromRequestParts<api::State> for Follower {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &api::State) -> Result<Self, Problem> {
        let caller = who(parts, &state.verifier)?;
        caller.map(Self).ok_or_else(|| auth::Error::Missing.into())
    }
}

/// What happens in all conversations of the caller, as server-sent events; in every conversation with the scope
/// `conversations:read:all`.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "live",
    params(Parameters, ("Last-Event-ID" = Option<String>, Header, description = "Behind this cursor")),
    responses(
        (status = 200, description = "Events, until the client hangs up, the token expires, or the client does not take what there is", body = LiveUpdate, content_type = "text/event-stream"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "Too much has happened since the cursor: load anew, and follow without one", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The cursor is none of these events", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The caller has too many connections", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The log is away, or there are too many connections", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn of_all(
    State(state): State<api::State>,
    Follower(caller): Follower,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Problem> {
    answer(&state.live, &caller, Topic::Mine, &headers, parameters).await
}

/// What happens in one conversation, as server-sent events.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation_id}/events",
    tag = "live",
    params(
        ("conversation_id" = uuid::Uuid, Path, description = "The conversation"),
        Parameters,
        ("Last-Event-ID" = Option<String>, Header, description = "Behind this cursor")
    ),
    responses(
        (status = 200, description = "Events, until the client hangs up, leaves the conversation, the token expires, or the client does not take what there is", body = LiveUpdate, content_type = "text/event-stream"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such conversation, or the caller is not in it", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "The cursor is not one of this log: load anew, and follow without one", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The cursor is none of these events", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The caller has too many connections", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The log is away, or there are too many connections", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn of_one(
    State(state): State<api::State>,
    Follower(caller): Follower,
    headers: HeaderMap,
    Path(id): Path<ConversationId>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Problem> {
    let topic = Topic::Conversation(id);
    answer(&state.live, &caller, topic, &headers, parameters).await
}

async fn answer(
    live: &Live,
    caller: &Caller,
    topic: Topic,
    headers: &HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let connection = live.connect("sse", Some(caller))?;
    let last = headers.get(LAST_EVENT_ID);
    let last = last.and_then(|value| value.to_str().ok());
    // A client that has seen nothing yet may send it empty.
    let last = last.filter(|text| !text.is_empty());
    let after = last.or(parameters.after.as_deref());
    let subscription = live.subscribe(caller, topic, after).await;
    let subscription = subscription.map_err(|problem| match last {
        Some(_) => of_header(problem),
        None => problem,
    })?;
    let updates = subscription.updates().map(|item| match item {
        Ok(update) => shown(&update),
        Err((end, cursor)) => farewell(&ended(end, cursor)),
    });
    let events = until(updates, expiry(caller), live.stop().clone(), connection);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let body = Body::from_stream(events.map(Ok::<_, Infallible>));
    Ok((headers, body).into_response())
}

/// What is wrong with a cursor is said of the header that it came in.
fn of_header(problem: Problem) -> Problem {
    match problem.errors().first().map(|wrong| wrong.detail.clone()) {
        Some(detail) => Problem::field("/Last-Event-ID", format!("header: {detail}")),
        None => problem,
    }
}

/// `updates` with heartbeats in between, until the token expires or the process stops.
fn until(
    updates: impl Stream<Item = Bytes> + Send + 'static,
    expires: Instant,
    stop: CancellationToken,
    connection: Connection,
) -> impl Stream<Item = Bytes> + Send {
    let state = (Box::pin(updates), stop, Some(connection));
    stream::unfold(state, move |(mut updates, stop, connection)| async move {
        connection.as_ref()?;
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = sleep_until(expires) => {
                let expired = Problem::from(chat4all_service::auth::Error::Expired);
                Some((farewell(&expired), (updates, stop, None)))
            }
            next = timeout(HEARTBEAT, updates.next()) => match next {
                Ok(next) => next.map(|bytes| (bytes, (updates, stop, connection))),
                Err(_quiet) => Some((Bytes::from_static(b":\n\n"), (updates, stop, connection))),
            },
        }
    })
}

fn shown(update: &Update) -> Bytes {
    let data = update.entry.as_ref().map(|entry| entry.data());
    let data = data.unwrap_or_default();
    let mut text = Vec::with_capacity(data.len() + update.cursor.len() + 32);
    text.extend_from_slice(b"id: ");
    text.extend_from_slice(update.cursor.as_bytes());
    if !data.is_empty() {
        // JSON has no line breaks outside of its strings, and in them they are escaped.
        text.extend_from_slice(b"\nevent: update\ndata: ");
        text.extend_from_slice(&data);
    }
    text.extend_from_slice(b"\n\n");
    text.into()
}

fn farewell(problem: &Problem) -> Bytes {
    let mut text = "event: end\n".to_owned();
    let _ = write!(text, "data: {}\n\n", problem.to_json());
    text.into()
}
