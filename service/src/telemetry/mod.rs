//! Logs and traces: one line per event, one trace from the first request to the last receipt.
//!
//! Every process makes spans, and so has trace ids, whether or not anything collects them: the id in a client's
//! `X-Trace-Id` finds the log lines in any case. A collector, if there is one, gets the spans as OTLP.
//! Log lines carry handles (ids), never message text, addresses or secrets; that is the callers' promise.

mod log;
mod otlp;
#[cfg(test)]
mod tests;
pub mod trace;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, dispatcher};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, filter};

use crate::config;

/// How long the last spans may take to leave.
const FLUSH: Duration = Duration::from_secs(3);

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is not one; the configuration has checked it already.
    #[error("failed to read the log filter")]
    Filter(#[source] filter::ParseError),
    /// The exporter cannot be built for this address.
    #[error("failed to set up the span exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The exporter's own runtime cannot be started.
    #[error("failed to start the span exporter")]
    Runtime(#[source] std::io::Error),
}

/// Keeps telemetry alive; dropping it sends the last spans, for at most three seconds.
#[must_use = "spans stop being sent when the guard is dropped"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            // The log may be gone by now; standard error is what is left.
            eprintln!("the last spans were not sent: {error}");
        }
    }
}

/// Sets up logs (on standard error) and traces for this process. A second call changes nothing and is not an error.
///
/// # Errors
/// See [`Error`].
pub fn init(config: &config::Telemetry, role: &'static str) -> Result<Guard, Error> {
    let (dispatch, guard) = subscriber(config, role, std::io::stderr)?;
    match dispatcher::set_global_default(dispatch) {
        Ok(()) => Ok(guard),
        Err(_) => Ok(Guard { provider: None }),
    }
}

/// The same, for a writer of the caller's and without making it the process's: for tests.
///
/// # Errors
/// See [`Error`].
pub fn subscriber<W>(
    config: &config::Telemetry,
    role: &'static str,
    writer: W,
) -> Result<(Dispatch, Guard), Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let provider = provider(config, role)?;
    let lines = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(Error::Filter)?;
    let log = log::Lines::new(config.format, role, writer).with_filter(lines);
    // Spans of any crate, so that no span stands between an event and its trace; events stay in the log.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("chat4all"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // Nothing but our own spans makes spans: which one is current the registry knows.
        .with_context_activation(false)
        .with_filter(filter::filter_fn(|metadata| {
            metadata.is_span() && *metadata.level() <= LevelFilter::INFO
        }));
    let dispatch = Dispatch::new(Registry::default().with(spans).with(log));
    Ok((
        dispatch,
        Guard {
            provider: Some(provider),
        },
    ))
}

fn provider(config: &config::Telemetry, role: &'static str) -> Result<SdkTracerProvider, Error> {
    let resource = Resource::builder()
        .with_service_name(format!("chat4all-{role}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    // Without a collector there are ids and nothing to keep, and nobody further on is asked to keep it.
    let ratio = config
        .otlp_endpoint
        .as_ref()
        .map_or(0.0, |_| config.sample_ratio);
    let ratio = Box::new(Sampler::TraceIdRatioBased(ratio));
    let builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(ratio));
    Ok(match &config.otlp_endpoint {
        Some(endpoint) => builder
            .with_batch_exporter(otlp::Exporter::new(endpoint)?)
            .build(),
        None => builder.build(),
    })
}
