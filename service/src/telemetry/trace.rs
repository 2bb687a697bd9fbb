//! One trace across processes: the W3C `traceparent` in HTTP headers and on the log's messages.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, warn};
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

/// The header that carries a trace, on HTTP requests and on the log's messages alike.
///
/// Source: <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub const TRACEPARENT: &str = "traceparent";

/// Makes `span` part of the trace that `traceparent` names, and hands it back. Nothing, or nonsense, starts a new trace.
///
/// Call it before the span is entered for the first time, as `follow(info_span!("…"), header)` does: a span that has
/// begun keeps the trace it has, and that is logged.
pub fn follow(span: Span, traceparent: Option<&str>) -> Span {
    let Some(traceparent) = traceparent else {
        return span;
    };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    // A span that nobody records cannot have a parent, and needs none.
    if parent.span().span_context().is_valid() && !span.is_disabled() {
        match span.set_parent(parent) {
            Ok(()) | Err(SetParentError::LayerNotFound | SetParentError::SpanDisabled) => {}
            Err(error) => warn!(%error, "a span had begun before its trace was known"),
        }
    }
    span
}

/// The current span as a `traceparent`, to be sent along; `None` outside any span.
pub fn current_traceparent() -> Option<String> {
    current().map(|span| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// The id of the current trace: 32 hexadecimal digits. `None` outside any span, or where telemetry was not set up.
pub fn trace_id() -> Option<String> {
    current().map(|span| span.trace_id().to_string())
}

fn current() -> Option<SpanContext> {
    let context = Span::current().context();
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}
