use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::{Dispatch, debug, dispatcher, info, info_span, warn};
use tracing_subscriber::fmt::MakeWriter;

use super::{Guard, subscriber, trace};
use crate::config::{self, Config, Sources};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What was logged.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
    fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn telemetry(settings: &str) -> config::Telemetry {
    let secrets = format!(
        "[auth]\nhs256_secret = '{}'\n[ids]\nsecret = '{}'\n",
        "s".repeat(32),
        "0".repeat(64)
    );
    let sources = Sources::new().with_file("test", format!("{secrets}[telemetry]\n{settings}"));
    Config::load(&sources).unwrap().config.telemetry
}

fn capture(settings: &str) -> (Captured, Dispatch, Guard) {
    let captured = Captured::default();
    let (dispatch, guard) = subscriber(&telemetry(settings), "test", captured.clone()).unwrap();
    (captured, dispatch, guard)
}

#[test]
fn a_line_is_one_json_object_with_the_trace_it_belongs_to() {
    let (captured, dispatch, _guard) = capture("");
    dispatcher::with_default(&dispatch, || {
        let span = trace::follow(info_span!("handle"), Some(TRACEPARENT));
        span.in_scope(|| {
            warn!(message.id = %"m-1", attempt = 2, retry_in_ms = 1.5, ok = false, "provider\nthrottled `m-1`");
        });
        info!("outside");
        debug!("not of interest");
    });
    let [line, outside] = <[Value; 2]>::try_from(captured.lines()).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["role"], "test");
    assert_eq!(line["target"], "chat4all_service::telemetry::tests");
    assert_eq!(line["message"], "provider\nthrottled `m-1`");
    assert_eq!(
        line["fields"],
        serde_json::json!({"message.id": "m-1", "attempt": 2, "retry_in_ms": 1.5, "ok": false})
    );
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    let time = line["timestamp"].as_str().unwrap();
    assert_eq!((time.len(), &time[23..]), (24, "Z"), "{time}");
    assert_eq!(outside.get("trace_id"), None);
}

#[test]
fn a_text_line_is_one_line() {
    let (captured, dispatch, _guard) = capture("format = 'text'\n");
    dispatcher::with_default(&dispatch, || info!(attempt = 2, "first\nsecond"));
    let text = captured.text();
    assert!(text.ends_with("first second attempt=2\n"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_span_continues_the_trace_it_is_given() {
    let (_captured, dispatch, _guard) = capture("");
    dispatcher::with_default(&dispatch, || {
        let span = trace::follow(info_span!("consume"), Some(TRACEPARENT));
        span.in_scope(|| {
            assert_eq!(
                trace::trace_id().unwrap(),
                "4bf92f3577b34da6a3ce929d0e0e4736"
            );
            let onward = trace::current_traceparent().unwrap();
            assert!(
                onward.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
                "{onward}"
            );
            assert!(
                onward.ends_with("-01") && !onward.contains("00f067aa0ba902b7"),
                "{onward}"
            );
            let child = info_span!("append");
            child.in_scope(|| {
                assert_eq!(
                    trace::trace_id().unwrap(),
                    "4bf92f3577b34da6a3ce929d0e0e4736"
                );
            });
        });
    });
}

#[test]
fn nonsense_starts_a_trace_of_its_own() {
    let (_captured, dispatch, _guard) = capture("");
    dispatcher::with_default(&dispatch, || {
        for nonsense in [
            "",
            "00-00000000000000000000000000000000-0000000000000000-01",
            "x",
        ] {
            let id = trace::follow(info_span!("consume"), Some(nonsense))
                .in_scope(|| trace::trace_id().unwrap());
            assert_eq!(id.len(), 32);
            assert_ne!(id, "0".repeat(32));
        }
        assert_eq!(trace::trace_id(), None, "outside any span");
    });
}

#[test]
fn trace_ids_exist_where_no_trace_is_kept_and_no_line_written() {
    let none = "sample_ratio = 0.0\notlp_endpoint = 'http://127.0.0.1:1'\nfilter = 'off'\n";
    let nowhere = "sample_ratio = 1.0\nfilter = 'off'\n";
    for settings in [none, nowhere] {
        let (captured, dispatch, _guard) = capture(settings);
        dispatcher::with_default(&dispatch, || {
            info_span!("request").in_scope(|| {
                info!("unheard");
                let traceparent = trace::current_traceparent().unwrap();
                assert!(traceparent.ends_with("-00"), "not sampled: {traceparent}");
            });
        });
        assert_eq!(captured.text(), "");
    }
}

#[test]
fn initialising_twice_is_not_an_error() {
    let config = telemetry("filter = 'off'\n");
    let first = super::init(&config, "one").unwrap();
    let second = super::init(&config, "two").unwrap();
    drop((first, second));
}
