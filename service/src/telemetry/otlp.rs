//! Sends spans to a collector: OTLP over HTTP, protobuf.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};
use url::Url;

use super::Error;
use crate::chain::Chain;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The exporter with a runtime of its own.
///
/// The SDK calls it on a plain thread, where the HTTP client finds no runtime; and the process's own may be gone or busy
/// when the last spans leave. So each export runs to its end on this one, on the SDK's thread.
pub(super) struct Exporter {
    otlp: Otlp,
    runtime: Runtime,
    /// Whether the last export failed: said when it changes, not with every batch.
    failing: AtomicBool,
}

impl Exporter {
    pub fn new(endpoint: &Url) -> Result<Self, Error> {
        let otlp = Otlp::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!(
                "{}/v1/traces",
                endpoint.as_str().trim_end_matches('/')
            ))
            .with_timeout(TIMEOUT)
            .build()
            .map_err(Error::Exporter)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        Ok(Self {
            otlp,
            runtime,
            failing: AtomicBool::new(false),
        })
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.runtime.block_on(self.otlp.export(batch));
        let failed_before = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed_before => {
                warn!(error = %Chain(error), "spans are being lost: the collector does not take them");
            }
            Ok(()) if failed_before => info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
