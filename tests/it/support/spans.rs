//! A collector of spans, as OTLP over HTTP.

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What a collector gets, call by call.
pub struct Spans {
    pub endpoint: String,
    exports: mpsc::UnboundedReceiver<Bytes>,
}

/// A span and the service it is from.
#[derive(Clone, Debug)]
pub struct Told {
    pub service: String,
    pub span: Span,
}

impl Spans {
    /// Collects until `servers` is dropped.
    pub async fn collect(servers: &mut JoinSet<std::io::Result<()>>) -> Self {
        let (sender, exports) = mpsc::unbounded_channel();
        let sink = post(move |body: Bytes| async move {
            // The test has seen enough and is gone: nobody misses what comes after.
            let _ = sender.send(body);
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/traces", sink);
        let routes = routes.layer(DefaultBodyLimit::disable());
        servers.spawn(async move { axum::serve(listener, routes).await });
        Self { endpoint, exports }
    }

    /// The spans of the next call.
    pub async fn next(&mut self) -> Vec<Told> {
        let body = self.exports.recv().await.unwrap();
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        let mut all = Vec::new();
        for resource in export.resource_spans {
            let attributes = resource
                .resource
                .map(|of| of.attributes)
                .unwrap_or_default();
            let service = attributes.into_iter().find(|one| one.key == "service.name");
            let service = service.map(|one| format!("{:?}", one.value));
            let spans = resource.scope_spans.into_iter().flat_map(|one| one.spans);
            all.extend(spans.map(|span| Told {
                service: service.clone().unwrap_or_default(),
                span,
            }));
        }
        all
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
