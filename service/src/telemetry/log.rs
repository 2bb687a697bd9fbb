//! Log lines: one per event, with the trace it belongs to.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::OnceLock;

use opentelemetry::trace::{SpanContext, TraceContextExt};
use serde::{Serialize, Serializer};
use serde_json::Value;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::dispatcher::WeakDispatch;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::config::LogFormat;

const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Writes each event as one line.
pub(super) struct Lines<W> {
    format: LogFormat,
    role: &'static str,
    writer: W,
    /// Needed to find the trace of an event: asking for the current dispatch while it works gives none.
    dispatch: OnceLock<WeakDispatch>,
}

impl<W> Lines<W> {
    pub fn new(format: LogFormat, role: &'static str, writer: W) -> Self {
        Self {
            format,
            role,
            writer,
            dispatch: OnceLock::new(),
        }
    }

    fn span_context<S>(&self, event: &Event<'_>, ctx: &Context<'_, S>) -> Option<SpanContext>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let span = ctx.event_span(event)?;
        let dispatch = self.dispatch.get()?.upgrade()?;
        let context = tracing_opentelemetry::get_otel_context(&span.id(), &dispatch)?;
        Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // One dispatch per subscriber; were there a second, the first would do as well.
        let _first_stays = self.dispatch.set(subscriber.downgrade());
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let trace = self.span_context(event, &ctx);
        let mut fields = Fields::default();
        event.record(&mut fields);
        let timestamp = clock::now()
            .format(MILLISECONDS)
            .expect("a time of this calendar has every part of this format");
        let line = match self.format {
            LogFormat::Json => json_line(&timestamp, self.role, event, trace.as_ref(), fields),
            LogFormat::Text => text_line(&timestamp, event, trace.as_ref(), fields),
        };
        // A log that cannot be written has nobody to be told; the process goes on.
        let _written = self
            .writer
            .make_writer_for(event.metadata())
            .write_all(line.as_bytes());
    }
}

fn json_line(
    timestamp: &str,
    role: &str,
    event: &Event<'_>,
    trace: Option<&SpanContext>,
    fields: Fields,
) -> String {
    let line = Line {
        timestamp,
        level: event.metadata().level().as_str(),
        role,
        target: event.metadata().target(),
        message: &fields.message,
        trace_id: trace.map(|trace| trace.trace_id().to_string()),
        span_id: trace.map(|trace| trace.span_id().to_string()),
        fields: &fields.others,
    };
    let mut line = serde_json::to_string(&line).expect("a line is strings and numbers");
    line.push('\n');
    line
}

/// A line as JSON. Written as it stands, once per request: no tree is made of it first.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'a str,
    role: &'a str,
    target: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "as_object")]
    fields: &'a [(&'static str, Value)],
}

fn as_object<S: Serializer>(
    fields: &[(&'static str, Value)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(name, value)| (name, value)))
}

fn text_line(
    timestamp: &str,
    event: &Event<'_>,
    trace: Option<&SpanContext>,
    fields: Fields,
) -> String {
    let metadata = event.metadata();
    // Text may hold line ends; a line of the log is one line all the same.
    let message = fields.message.replace(['\n', '\r'], " ");
    let mut line = format!(
        "{timestamp} {:5} {}: {message}",
        metadata.level(),
        metadata.target()
    );
    for (name, value) in &fields.others {
        write!(line, " {name}={value}").expect("writing to a String");
    }
    if let Some(trace) = trace {
        write!(line, " trace_id={}", trace.trace_id()).expect("writing to a String");
    }
    line.push('\n');
    line
}

/// An event's fields, in their order; the message is told apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::chain::Chain(value).to_string().into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
