//! The trace that began with a command goes on in the projector.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use chat4all_service::config::{Config, Sources};
use chat4all_service::telemetry;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stack::{How, Stack};
use super::story::Story;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector of spans, and its address.
async fn collector(servers: &mut JoinSet<std::io::Result<()>>) -> (String, mpsc::Receiver<Bytes>) {
    let (sender, exports) = mpsc::channel(64);
    let sink = post(move |body: Bytes| async move {
        // The test has seen enough and is gone: nobody misses what comes after.
        let _ = sender.send(body).await;
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/traces", sink);
    servers.spawn(async move { axum::serve(listener, routes).await });
    (endpoint, exports)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_and_the_folding_of_its_events_are_one_trace() {
    let mut servers = JoinSet::new();
    let (endpoint, mut exports) = collector(&mut servers).await;
    let file = format!(
        "[auth]\nhs256_secret = '{}'\n[ids]\nsecret = '{}'\n[telemetry]\notlp_endpoint = '{endpoint}'\n",
        "s".repeat(32),
        "0".repeat(64)
    );
    let loaded = Config::load(&Sources::new().with_file("test", file)).unwrap();
    let telemetry = loaded.config.telemetry;
    let (seen_by, guard) = telemetry::subscriber(&telemetry, "projector", std::io::sink).unwrap();

    let stack = Stack::start().await;
    let mut story = Story::new(stack.log());
    story.whole_journeys(2, 1).await;
    story.traceparent = Some(format!("00-{TRACE}-{PARENT}-01"));
    story.whole_journeys(1, 1).await;
    stack
        .fold(&How {
            seen_by,
            ..How::into("chat4all")
        })
        .await;
    tokio::task::spawn_blocking(move || drop(guard))
        .await
        .unwrap();

    let (mut projects, mut batches) = (Vec::new(), Vec::new());
    while projects.is_empty() || batches.is_empty() {
        let body = timeout(Duration::from_secs(10), exports.recv()).await;
        let body = body
            .expect("spans within 10 s")
            .expect("the collector lives");
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = export
            .resource_spans
            .into_iter()
            .flat_map(|r| r.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            match span.name.as_str() {
                "project" => projects.push(span),
                "project_batch" => batches.push(span),
                _ => {}
            }
        }
    }
    // The events without a trace have no span of their own; those of one trace share one per batch.
    for span in &projects {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(hex(&span.parent_span_id), PARENT);
    }
    let linked = |batch: &Span| batch.links.iter().any(|link| hex(&link.trace_id) == TRACE);
    assert!(
        batches.iter().any(linked),
        "a batch says whose events it had"
    );
    assert!(batches.iter().all(|batch| hex(&batch.trace_id) != TRACE));
}
