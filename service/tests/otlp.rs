//! Spans reach a collector as OTLP over HTTP, also the last ones of a process that ends.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use chat4all_service::config::{self, Config, Sources};
use chat4all_service::telemetry::{subscriber, trace};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{dispatcher, info_span};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn config(endpoint: &str) -> config::Telemetry {
    let file = format!(
        "[auth]\nhs256_secret = '{}'\n[ids]\nsecret = '{}'\n[telemetry]\notlp_endpoint = '{endpoint}'\n",
        "s".repeat(32),
        "0".repeat(64)
    );
    let loaded = Config::load(&Sources::new().with_file("test", file));
    loaded.expect("a right configuration").config.telemetry
}

/// A connection is made, and then nothing comes: the worst a collector can do.
#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_up_the_end_of_a_process() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(&format!("http://{}", silent.local_addr().unwrap()));
    let (dispatch, guard) = subscriber(&config, "test", std::io::sink).unwrap();
    dispatcher::with_default(&dispatch, || info_span!("request").in_scope(|| ()));
    let begin = Instant::now();
    drop(guard);
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test(flavor = "current_thread")]
async fn the_last_spans_are_sent_when_the_guard_goes() {
    let (sender, mut requests) = mpsc::channel(8);
    let sink = post(move |headers: HeaderMap, body: Bytes| async move {
        sender.send((headers, body)).await.unwrap();
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut servers = JoinSet::new();
    servers
        .spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", sink)).await });

    let config = config(&endpoint);
    let (dispatch, guard) = subscriber(&config, "command-api", std::io::sink).unwrap();
    dispatcher::with_default(&dispatch, || {
        trace::follow(
            info_span!("request", otel.kind = "server"),
            Some(TRACEPARENT),
        )
        .in_scope(|| info_span!("append").in_scope(|| ()));
    });
    // Where this thread runs both the collector and the end of the process, one must not wait for the other.
    tokio::task::spawn_blocking(move || drop(guard))
        .await
        .unwrap();

    let (headers, body) = timeout(Duration::from_secs(10), requests.recv())
        .await
        .expect("no export within 10 s")
        .expect("the collector lives");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let resource = &export.resource_spans[0];
    let service = resource.resource.as_ref().unwrap().attributes.iter();
    let name = service
        .into_iter()
        .find(|attribute| attribute.key == "service.name")
        .unwrap();
    assert!(
        format!("{name:?}").contains("chat4all-command-api"),
        "{name:?}"
    );
    let mut spans: Vec<_> = resource
        .scope_spans
        .iter()
        .flat_map(|scope| scope.spans.iter())
        .collect();
    spans.sort_by(|a, b| a.name.cmp(&b.name));
    let [append, request] = spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(
        (append.name.as_str(), request.name.as_str()),
        ("append", "request")
    );
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for span in [append, request] {
        assert_eq!(hex(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    assert_eq!(hex(&request.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(append.parent_span_id, request.span_id);
}
