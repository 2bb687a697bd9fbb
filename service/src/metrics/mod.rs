//! Numbers for Prometheus: one registry per process, which every role registers its own in.

pub mod http;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::problem::Problem;

/// Bounds in seconds for anything between half a millisecond and ten seconds: requests, appends, provider calls.
pub const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A histogram of durations, in seconds. Made for `Family::new_with_constructor(seconds)`.
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// The process's metrics; a cheap handle. Every name begins with `chat4all_`.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    http: http::HttpMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A new registry, with the metrics of HTTP servers in it.
    pub fn new() -> Self {
        let http = http::HttpMetrics::default();
        let metrics = Self {
            registry: Arc::new(Mutex::new(Registry::with_prefix("chat4all"))),
            http: http.clone(),
        };
        metrics.register(|registry| http.register(registry));
        metrics
    }

    /// Adds a role's own metrics. A name may be registered once only; counters get `_total` by themselves.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What HTTP servers count.
    pub fn http(&self) -> &http::HttpMetrics {
        &self.http
    }

    /// Everything as OpenMetrics text.
    ///
    /// # Errors
    /// A metric that cannot print itself.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut page, &registry)?;
        Ok(page)
    }

    /// `GET /metrics`.
    pub fn routes(&self) -> Router {
        let metrics = self.clone();
        Router::new().route("/metrics", get(move || async move { metrics.page() }))
    }

    fn page(&self) -> Response {
        const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        match self.encode() {
            Ok(page) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                Problem::internal().into_response()
            }
        }
    }
}
