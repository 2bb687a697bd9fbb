//! The trace that began with a command goes on in the projector.

use std::time::Duration;

use chat4all_service::config::{Config, Sources};
use chat4all_service::telemetry;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stack::{How, Stack};
use super::story::Story;
use crate::support::spans::{Spans, Told, hex};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_and_the_folding_of_its_events_are_one_trace() {
    let mut servers = JoinSet::new();
    let mut collected = Spans::collect(&mut servers).await;
    let endpoint = collected.endpoint.clone();
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
        let told = timeout(Duration::from_secs(10), collected.next()).await;
        for Told { span, .. } in told.expect("spans within 10 s") {
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
