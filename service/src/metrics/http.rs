//! What every HTTP server counts: rate, errors and duration by method, route and class of status.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::seconds;

/// Labels with few values: route templates, never paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: String,
    status: &'static str,
}

/// The metrics of HTTP servers; a cheap handle.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<Labels, Counter>,
    duration: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
        }
    }
}

impl HttpMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_requests",
            "Requests answered, by method, route and class of status",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time until the answer began",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests not yet answered",
            self.in_flight.clone(),
        );
    }

    /// A request has come in; what the returned value is told, or not told, ends it.
    pub(crate) fn begin(&self, method: &Method, route: &str) -> InFlight {
        self.in_flight.inc();
        let labels = Labels {
            method: method_label(method),
            route: route.to_owned(),
            status: "aborted",
        };
        InFlight {
            metrics: self.clone(),
            labels,
            elapsed: None,
        }
    }
}

/// A request that is being answered. Dropped unanswered (the client hung up), it counts as `aborted`.
pub(crate) struct InFlight {
    metrics: HttpMetrics,
    labels: Labels,
    elapsed: Option<Duration>,
}

impl InFlight {
    pub fn answered(mut self, status: StatusCode, elapsed: Duration) {
        self.labels.status = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.elapsed = Some(elapsed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        self.metrics.requests.get_or_create(&self.labels).inc();
        if let Some(elapsed) = self.elapsed {
            self.metrics
                .duration
                .get_or_create(&self.labels)
                .observe(elapsed.as_secs_f64());
        }
    }
}

/// A client may invent methods; a label must not.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
