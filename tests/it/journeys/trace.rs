//! One trace, from the request to the provider: its id is in the answer's header, on the log's messages, in the projector's
//! span and in what the provider received.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::system::{System, contact};
use super::until;
use crate::support::spans::{Spans, Told, hex};

const PHONE: &str = "4915100000009";
/// A trace that a client has begun, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_trace_id_from_the_answer_over_the_log_to_the_provider() {
    let mut servers = JoinSet::new();
    let mut spans = Spans::collect(&mut servers).await;
    let endpoint = spans.endpoint.clone();
    let system = System::with(|command| {
        command.arg("--split");
        command.env("CHAT4ALL_TELEMETRY__OTLP_ENDPOINT", endpoint);
    });
    let mut collected = Vec::new();
    // One that begins here, and one that a client has begun.
    for traceparent in [None, Some(format!("00-{TRACE}-{PARENT}-01"))] {
        let trace = journey(&system, traceparent.as_deref()).await;
        if traceparent.is_some() {
            assert_eq!(trace, TRACE);
        }
        let of_trace = |told: &&Told| hex(&told.span.trace_id) == trace;
        // The projector, last of all, says what it folded; the others have said theirs by then or a moment later.
        let complete = |collected: &[Told]| {
            let names: BTreeSet<_> = collected.iter().filter(of_trace).map(name).collect();
            PARTS.iter().all(|part| names.contains(part))
        };
        while !complete(&collected) {
            let more = timeout(Duration::from_secs(30), spans.next()).await;
            let seen: BTreeSet<_> = collected.iter().filter(of_trace).map(name).collect();
            collected.extend(more.unwrap_or_else(|_| panic!("only {seen:?}")));
        }
        let of_trace: Vec<_> = collected.iter().filter(of_trace).collect();
        let known: BTreeSet<_> = of_trace.iter().map(|told| &told.span.span_id).collect();
        let request = of_trace.iter().find(|told| name(told) == PARTS[0]).unwrap();
        let above = hex(&request.span.parent_span_id);
        assert_eq!(above, traceparent.map(|_| PARENT).unwrap_or_default());
        for told in &of_trace {
            let is_root = told.span.span_id == request.span.span_id;
            let parent = &told.span.parent_span_id;
            assert!(is_root || known.contains(parent), "no parent: {told:?}");
        }
    }
}

/// Who has a part in the trace, and the name of its span.
const PARTS: [(&str, &str); 3] = [
    ("command-api", "POST /v1/messages"),
    ("projector", "project"),
    ("bridges", "deliver"),
];

fn name(told: &Told) -> (&'static str, &'static str) {
    let part = PARTS
        .iter()
        .find(|(role, span)| told.service.contains(role) && told.span.name == *span);
    part.copied().unwrap_or_default()
}

/// Sends a message until it is read, and returns its trace's id, which is the same everywhere.
async fn journey(system: &System, traceparent: Option<&str>) -> String {
    let body = json!({"to": contact(PHONE), "content": {"type": "text", "text": "traced"}});
    let url = format!("{}/v1/messages", system.commands());
    let mut request = system.request(Method::POST, url).json(&body);
    request = request.bearer_auth(system.full("anna"));
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let accepted = system.send(request).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let trace = accepted.trace_id.unwrap();
    let id = accepted.body["message_id"].as_str().unwrap().to_owned();

    let is_read = |log: &[super::system::Stored]| {
        let mut events = log.iter().filter(|stored| stored.token(6) == id);
        events.any(|stored| stored.first("DeliveryRead").is_some())
    };
    let log = until(
        "the message is read",
        async || system.log().await,
        |log| is_read(log),
    )
    .await;
    // The message, and what the bridges did about it.
    let mut ours = Vec::new();
    for stored in &log {
        if stored.subject.contains(&id) {
            let types = stored.body["events"][0]["type"].as_str().unwrap();
            if ["MessageAccepted", "DeliveryAttempted", "DeliverySent"].contains(&types) {
                let traceparent = stored.traceparent.as_deref().unwrap_or_default();
                assert_eq!(
                    trace_id(traceparent),
                    trace,
                    "{types} at {}",
                    stored.subject
                );
                ours.push(types);
            }
        }
    }
    assert_eq!(
        ours,
        ["MessageAccepted", "DeliveryAttempted", "DeliverySent"]
    );
    let calls = system.handed_over().await;
    let call = calls.iter().rfind(|call| call["to"] == PHONE).unwrap();
    let received = call["traceparent"].as_str().unwrap_or_default();
    assert_eq!(trace_id(received), trace, "the provider's call");
    trace
}

fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or(traceparent)
}
