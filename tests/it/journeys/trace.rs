//! One trace, from the request to the provider: its id is in the answer's header, on the log's messages, in the projector's
//! span and in what the provider received. What a customer writes is one trace from the webhook on, and a query is part of
//! its client's.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::system::{Stored, System, contact};
use super::until;
use crate::support::spans::{Spans, Told, hex};

const PHONE: &str = "4915100000009";
/// A trace that a client has begun, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A role, and the name of its span.
type Part = (&'static str, &'static str);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_trace_id_from_the_answer_over_the_log_to_the_provider() {
    let mut servers = JoinSet::new();
    let mut watch = Watch {
        spans: Spans::collect(&mut servers).await,
        told: Vec::new(),
    };
    let endpoint = watch.spans.endpoint.clone();
    let system = System::with(|command| {
        command.arg("--split");
        command.env("CHAT4ALL_TELEMETRY__OTLP_ENDPOINT", endpoint);
    });
    let parts = [
        ("command-api", "POST /v1/messages"),
        ("bridges", "deliver"),
        ("projector", "project"),
    ];
    let begun_here = sent(&system, None).await;
    watch.has_one_tree(&begun_here, "", &parts).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    assert_eq!(sent(&system, Some(&traceparent)).await, TRACE);
    watch.has_one_tree(TRACE, PARENT, &parts).await;

    let received = received(&system).await;
    let parts = [
        ("bridges", "POST /webhooks/{kind}/{account}"),
        ("bridges", "inbound"),
        ("projector", "project"),
    ];
    watch.has_one_tree(&received, "", &parts).await;

    let (trace, route) = ("0af7651916cd43dd8448eb211c80319c", "/v1/conversations");
    let url = format!("{}{route}", system.env["CHAT4ALL_QUERY_URL"]);
    let query = system.request(Method::GET, url);
    let query = query.bearer_auth(system.full("anna"));
    let query = query.header("traceparent", format!("00-{trace}-{PARENT}-01"));
    let answer = system.send(query).await;
    assert_eq!(answer.trace_id.as_deref(), Some(trace));
    let parts = [("query-api", "GET /v1/conversations")];
    watch.has_one_tree(trace, PARENT, &parts).await;
}

/// What the collector was told so far.
struct Watch {
    spans: Spans,
    told: Vec<Told>,
}

impl Watch {
    /// Waits until every one of `parts` has a span in `trace`; then the first one's parent is `parent`, and every other
    /// span's is one of them.
    async fn has_one_tree(&mut self, trace: &str, parent: &str, parts: &[Part]) {
        let is_part = |told: &Told, (role, name): &Part| {
            told.service.contains(role) && told.span.name == *name
        };
        let tree = loop {
            let all = self.told.iter();
            let tree: Vec<_> = all
                .filter(|told| hex(&told.span.trace_id) == trace)
                .collect();
            let there = |part| tree.iter().any(|told| is_part(told, part));
            if parts.iter().all(there) {
                break tree;
            }
            let names: Vec<_> = tree.iter().map(|told| told.span.name.clone()).collect();
            let more = timeout(Duration::from_secs(30), self.spans.next()).await;
            self.told
                .extend(more.unwrap_or_else(|_| panic!("only {names:?} of {parts:?}")));
        };
        let known: BTreeSet<_> = tree.iter().map(|told| &told.span.span_id).collect();
        let root = tree.iter().find(|told| is_part(told, &parts[0])).unwrap();
        assert_eq!(hex(&root.span.parent_span_id), parent);
        for told in &tree {
            let above = known.contains(&told.span.parent_span_id);
            assert!(above || told.span.span_id == root.span.span_id, "{told:?}");
        }
    }
}

/// Sends a message until it is read, and returns its trace's id, which is the same everywhere.
async fn sent(system: &System, traceparent: Option<&str>) -> String {
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

    let ours = |log: Vec<Stored>| -> Vec<(String, String)> {
        let about_it = log.iter().filter(|stored| stored.subject.contains(&id));
        about_it
            .map(|stored| (first_type(stored), trace_of(stored)))
            .collect()
    };
    let log = until(
        "the message is read",
        async || ours(system.log().await),
        |ours| ours.iter().any(|(event, _)| event == "DeliveryRead"),
    )
    .await;
    // The message, and what the bridges did about it; receipts are the provider's.
    let of_trace = |(event, of): &(String, String)| (*of == trace).then(|| event.clone());
    let of_trace: Vec<_> = log.iter().filter_map(of_trace).collect();
    assert_eq!(
        of_trace,
        ["MessageAccepted", "DeliveryAttempted", "DeliverySent"],
        "of {log:?}"
    );
    let calls = system.handed_over().await;
    let call = calls.iter().rfind(|call| call["to"] == PHONE).unwrap();
    let received = call["traceparent"].as_str().unwrap_or_default();
    assert_eq!(trace_id(received), trace, "the provider's call");
    trace
}

/// A customer writes; the trace's id, which is the same on the stored webhook call and on the message.
async fn received(system: &System) -> String {
    let provider_id = system.write_in(PHONE, "traced, too", None).await;
    let is_it = |stored: &&Stored| {
        let message = stored.first("MessageAccepted");
        message.is_some_and(|(_, personal)| personal["provider_id"] == provider_id)
    };
    let trace = until(
        "the message is on the log",
        async || system.log().await.iter().find(is_it).map(trace_of),
        Option::is_some,
    )
    .await
    .unwrap();
    let calls = system.inbound().await;
    let call = calls
        .iter()
        .rfind(|call| call.body.to_string().contains(&provider_id));
    assert_eq!(trace_of(call.unwrap()), trace);
    trace
}

fn first_type(stored: &Stored) -> String {
    stored.body["events"][0]["type"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn trace_of(stored: &Stored) -> String {
    trace_id(stored.traceparent.as_deref().unwrap_or_default()).to_owned()
}

fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or(traceparent)
}
