//! Whose events a batch has: the traces that their commands began go on here.

use std::collections::BTreeMap;

use chat4all_nats::codec::TRACEPARENT;
use chat4all_service::telemetry::trace::follow;
use opentelemetry::trace::TraceContextExt;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::batch::Event;

/// The flags of a trace that nobody records.
const NOT_SAMPLED: &str = "-00";

/// What is being folded. `batch` is a trace of its own, linked with every trace in it; `commands` are spans within those.
pub(crate) struct Spans {
    pub batch: Span,
    /// Kept until the batch is written: that is how long they take.
    pub _commands: Vec<Span>,
}

/// A span for the batch, and one in the trace of each command in it.
pub(crate) fn spans(events: &[Event]) -> Spans {
    let batch = info_span!(parent: None, "project_batch", events = events.len());
    let mut firsts = BTreeMap::new();
    for event in events {
        for traceparent in traceparents(event) {
            firsts.entry(traceparent).or_insert(event.position);
        }
    }
    let commands: Vec<Span> = firsts
        .into_iter()
        .map(|(traceparent, position)| {
            let span = info_span!(parent: None, "project", otel.kind = "consumer", %position);
            follow(span, Some(traceparent))
        })
        .collect();
    for command in &commands {
        let context = command.context().span().span_context().clone();
        if context.is_valid() {
            batch.add_link(context);
        }
    }
    Spans {
        batch,
        _commands: commands,
    }
}

fn traceparents(event: &Event) -> impl Iterator<Item = &str> {
    let values = event.stored.headers.get_all(TRACEPARENT);
    values
        .map(|value| value.as_str())
        .filter(|traceparent| !traceparent.ends_with(NOT_SAMPLED))
}
