//! What stands around every role's routes.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::error;

use super::extract::TOO_LARGE;
use super::observe::observe;
use crate::config;
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};

/// The manners of a server.
#[derive(Clone, Debug)]
pub struct Shell {
    metrics: Metrics,
    body_limit_bytes: usize,
    request_timeout: Duration,
}

impl Shell {
    /// As the configuration says.
    pub fn new(config: &config::Http, metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            body_limit_bytes: config.body_limit_bytes,
            request_timeout: config.request_timeout_ms.duration(),
        }
    }

    /// Puts the manners around finished routes; nothing may be added to them afterwards. `document` is the path of the document
    /// that lists them, if there is one. A route with a limit of its own says so with `DefaultBodyLimit` on itself.
    pub fn wrap(&self, routes: Router, document: Option<&'static str>) -> Router {
        let fallback = move || std::future::ready(no_such_route(document));
        self.around(routes.fallback(fallback))
    }

    /// As [`Shell::wrap`], while others are still to come: every other path is 503.
    pub fn wrap_for_now(&self, routes: Router) -> Router {
        self.around(routes.fallback(not_ready_yet))
    }

    fn around(&self, routes: Router) -> Router {
        routes
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(self.body_limit_bytes))
            .layer(from_fn_with_state(self.request_timeout, limit_time))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(map_response(plain_to_problem))
            .layer(from_fn_with_state(self.metrics.http().clone(), observe))
    }
}

fn no_such_route(document: Option<&str>) -> Problem {
    let detail = match document {
        Some(document) => format!("No route has this path; `{document}` lists those there are."),
        None => "No route has this path here; `/readyz` says which role this is.".to_owned(),
    };
    Problem::new(Code::NotFound, detail)
}

async fn not_ready_yet() -> Problem {
    let detail = "This process is starting, and waits for what it needs; `/readyz` says for what.";
    Problem::new(Code::Unavailable, detail).retry_after(Duration::from_secs(1))
}

async fn wrong_method() -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        "The header `Allow` names the methods of this path.",
    )
}

/// The time until an answer begins; a long answer, once begun, may go on.
async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            let detail = format!(
                "No answer within {} ms. What was asked for may still have been done; repeat it with the same key.",
                limit.as_millis()
            );
            Problem::new(Code::Timeout, detail).into_response()
        }
    }
}

/// What the panic said may hold anything; it is on standard error, from the panic hook.
fn panicked(_said: Box<dyn Any + Send>) -> Response {
    error!("a request handler panicked");
    Problem::internal().into_response()
}

/// Refusals that a library made as plain text leave as problems all the same; other bodies are left alone.
async fn plain_to_problem(response: Response) -> Response {
    let status = response.status();
    let plain = match response.headers().get(header::CONTENT_TYPE) {
        None => true,
        Some(kind) => kind.as_bytes().starts_with(b"text/plain"),
    };
    if !plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    // A status that no code has keeps its answer: what it means is between the library and the client (426, say).
    let Some(code) = Code::ALL
        .iter()
        .copied()
        .find(|code| code.status() == status)
    else {
        return response;
    };
    let detail = match status {
        StatusCode::PAYLOAD_TOO_LARGE => TOO_LARGE,
        _ => code.title(),
    };
    let mut problem = Problem::new(code, detail).into_response();
    // What the refusal said in headers stays true: Allow, Retry-After, WebSocket versions.
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}
