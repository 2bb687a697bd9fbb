//! One span, one access line and three numbers per request.
//!
//! The line has the ids that find a request again, and the route's template and path. It never has a query string, a
//! header or a body. The path of a request that no route has is not shown: it may hold anything.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, info, info_span, warn};
use uuid::Uuid;

use crate::metrics::http::HttpMetrics;
use crate::problem::Code;
use crate::telemetry::trace::{self, TRACEPARENT};

/// On every answer: the id of the request's trace, 32 hexadecimal digits.
pub const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// On every answer: the id of this one request; the caller's own, if it sent a sensible one.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const UNMATCHED: &str = "unmatched";

/// What is asked again and again by machines; of interest only when it fails.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Its 503 is an answer, not a failure: what changes there is logged once, where it is found (`health`).
const READINESS: &str = "/readyz";

pub(super) async fn observe(
    State(metrics): State<HttpMetrics>,
    request: Request,
    next: Next,
) -> Response {
    let begin = Instant::now();
    let seen = Arc::new(Seen::of(&request));
    let in_flight = metrics.begin(request.method(), &seen.route);
    let span = seen.span(request.headers());
    let answered = Arc::clone(&seen);
    async move {
        let mut response = next.run(request).await;
        let elapsed = begin.elapsed();
        in_flight.answered(response.status(), elapsed);
        answered.conclude(&response, elapsed.as_secs_f64() * 1_000.0);
        answered.mark(response.headers_mut());
        response
    }
    .instrument(span)
    .await
}

/// What is said of a request.
struct Seen {
    method: String,
    route: String,
    /// Empty if no route has it.
    path: String,
    request_id: String,
}

impl Seen {
    fn of(request: &Request) -> Self {
        let route = request
            .extensions()
            .get::<MatchedPath>()
            .map(|path| path.as_str().to_owned());
        let path = route
            .as_ref()
            .map_or("", |_| request.uri().path())
            .to_owned();
        Self {
            method: request.method().to_string(),
            route: route.unwrap_or_else(|| UNMATCHED.to_owned()),
            path,
            request_id: request_id(request.headers()),
        }
    }

    fn span(&self, headers: &HeaderMap) -> Span {
        // A root of its own: not a child of whatever span the server was started in.
        let span = info_span!(
            parent: None,
            "request",
            otel.name = format!("{} {}", self.method, self.route),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = self.method,
            http.route = self.route,
            http.response.status_code = Empty,
            request.id = self.request_id,
        );
        trace::follow(
            span,
            headers
                .get(TRACEPARENT)
                .and_then(|value| value.to_str().ok()),
        )
    }

    fn conclude(&self, response: &Response, duration_ms: f64) {
        let status = response.status().as_u16();
        let span = Span::current();
        span.record("http.response.status_code", status);
        let problem = response
            .extensions()
            .get::<Code>()
            .map_or("", |code| code.as_str());
        let Self {
            method,
            route,
            path,
            request_id,
        } = self;
        let not_ready = route == READINESS && response.status() == StatusCode::SERVICE_UNAVAILABLE;
        if response.status().is_server_error() && !not_ready {
            span.record("otel.status_code", "ERROR");
            warn!(
                http.method = method,
                http.route = route,
                http.path = path,
                http.status = status,
                problem,
                duration_ms,
                request.id = request_id,
                "{method} {route} answered {status}"
            );
        } else if PROBES.contains(&route.as_str()) {
            debug!(
                http.route = route,
                http.status = status,
                duration_ms,
                "{method} {route} answered {status}"
            );
        } else {
            info!(
                http.method = method,
                http.route = route,
                http.path = path,
                http.status = status,
                problem,
                duration_ms,
                request.id = request_id,
                "{method} {route} answered {status}"
            );
        }
    }

    fn mark(&self, headers: &mut HeaderMap) {
        if let Some(value) = trace::trace_id().and_then(|id| HeaderValue::try_from(id).ok()) {
            headers.insert(TRACE_ID, value);
        }
        if let Ok(value) = HeaderValue::try_from(&self.request_id) {
            headers.insert(REQUEST_ID, value);
        }
    }
}

/// The caller's id, if it is short and plain; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let sent = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(plain);
    sent.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}
