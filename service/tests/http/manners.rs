use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use chat4all_service::http::Body;
use chat4all_service::telemetry::trace;
use serde_json::Value;

use crate::server::{Server, client};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn traced() -> String {
    trace::current_traceparent().unwrap()
}

async fn size(Body(bytes): Body) -> String {
    bytes.len().to_string()
}

fn routes() -> Router {
    Router::new()
        .route("/things/{id}", get(traced))
        .route(
            "/panic",
            get(|| async { panic!("a panic that names 4915112345678") as () }),
        )
        .route("/slow", get(std::future::pending::<()>))
        .route("/small", post(size))
        .route("/large", post(size).layer(DefaultBodyLimit::max(4096)))
        .route(
            "/upgrade",
            get(|| async { (StatusCode::UPGRADE_REQUIRED, "speak WebSocket") }),
        )
        .route(
            "/plain",
            get(|| async { (StatusCode::UNSUPPORTED_MEDIA_TYPE, "as a library says") }),
        )
}

#[tokio::test]
async fn a_request_follows_its_callers_trace_and_every_answer_names_it() {
    let server = Server::start(routes()).await;
    let request = client()
        .get(server.url("/things/7"))
        .header("traceparent", TRACEPARENT);
    let answer = request
        .header("x-request-id", "order-4711")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-trace-id"], TRACE);
    assert_eq!(answer.headers()["x-request-id"], "order-4711");
    assert!(
        answer
            .text()
            .await
            .unwrap()
            .starts_with(&format!("00-{TRACE}-"))
    );

    let mut seen = std::collections::BTreeSet::new();
    for path in [
        "/things/7",
        "/things/7",
        "/nowhere",
        "/panic",
        "/slow",
        "/livez",
    ] {
        let answer = client()
            .get(server.url(path))
            .header("x-request-id", "no spaces")
            .send()
            .await
            .unwrap();
        let id = answer.headers()["x-trace-id"].to_str().unwrap().to_owned();
        assert_eq!(id.len(), 32, "{path}");
        assert_eq!(
            answer.headers()["x-request-id"].len(),
            36,
            "{path}: an id of ours"
        );
        if answer.status() != StatusCode::OK {
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["trace_id"], id.as_str(), "{path}");
        }
        assert!(
            seen.insert(id),
            "{path}: requests of their own have traces of their own"
        );
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_and_the_server_goes_on() {
    let server = Server::start(routes()).await;
    let answer = client().get(server.url("/panic")).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = answer.text().await.unwrap();
    assert!(
        body.contains("\"internal\"") && !body.contains("4915112345678"),
        "{body}"
    );
    assert!(
        !server.text().contains("4915112345678"),
        "what a panic says is not logged"
    );
    assert_eq!(
        client()
            .get(server.url("/things/1"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_a_problem() {
    let server = Server::start(routes()).await;
    let answer = client().get(server.url("/slow")).send().await.unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "timeout");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_is_sent() {
    let server = Server::start(routes()).await;
    let chunks = || {
        let chunk = || Ok::<_, std::io::Error>("x".repeat(600));
        reqwest::Body::wrap_stream(futures::stream::iter([chunk(), chunk()]))
    };
    let whole = || reqwest::Body::from("x".repeat(1200));
    for (path, body, status) in [
        ("/small", reqwest::Body::from("x".repeat(1024)), 200),
        ("/small", whole(), 413),
        ("/small", chunks(), 413),
        ("/large", whole(), 200),
        ("/large", reqwest::Body::from("x".repeat(4097)), 413),
    ] {
        let answer = client()
            .post(server.url(path))
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{path}");
        if status == 413 {
            assert_eq!(
                answer.json::<Value>().await.unwrap()["code"],
                "payload_too_large"
            );
        }
    }
}

#[tokio::test]
async fn what_no_handler_has_answered_is_a_problem_too() {
    let server = Server::start(routes()).await;
    let nowhere = client().get(server.url("/nowhere")).send().await.unwrap();
    assert_eq!(nowhere.status(), 404);
    let nowhere = nowhere.json::<Value>().await.unwrap();
    assert_eq!(nowhere["code"], "not_found");
    // This one has no document that lists its routes.
    let detail = nowhere["detail"].as_str().unwrap();
    assert!(detail.contains("`/readyz`"), "{detail}");
    let wrong = client()
        .delete(server.url("/things/1"))
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 405);
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    assert_eq!(
        wrong.json::<Value>().await.unwrap()["code"],
        "method_not_allowed"
    );
    let plain = client().get(server.url("/plain")).send().await.unwrap();
    assert_eq!(plain.status(), 415);
    assert_eq!(plain.headers()["content-type"], "application/problem+json");
    assert_eq!(
        plain.json::<Value>().await.unwrap()["code"],
        "unsupported_media_type"
    );
}

#[tokio::test]
async fn the_access_line_has_handles_and_nothing_personal() {
    let server = Server::start(routes()).await;
    let url = server.url("/things/7?address=4915112345678");
    let request = client().get(url).header("traceparent", TRACEPARENT);
    request
        .header("authorization", "Bearer very-secret")
        .send()
        .await
        .unwrap();
    client()
        .post(server.url("/small"))
        .body("the text of a message")
        .send()
        .await
        .unwrap();
    client()
        .get(server.url("/lost/4915112345678"))
        .send()
        .await
        .unwrap();
    client().get(server.url("/livez")).send().await.unwrap();

    let text = server.text();
    for personal in ["4915112345678", "very-secret", "the text of a message"] {
        assert!(!text.contains(personal), "`{personal}` in {text}");
    }
    let [thing, small, lost] = <[Value; 3]>::try_from(server.lines()).expect("no line for a probe");
    assert_eq!(thing["message"], "GET /things/{id} answered 200");
    assert_eq!(thing["trace_id"], TRACE);
    assert_eq!(thing["fields"]["http.path"], "/things/7");
    assert!(thing["fields"]["duration_ms"].is_f64(), "{thing}");
    assert_eq!(thing["fields"]["request.id"].as_str().unwrap().len(), 36);
    assert_eq!(small["message"], "POST /small answered 200");
    assert_eq!(lost["message"], "GET unmatched answered 404");
    assert_eq!(lost["fields"]["problem"], "not_found");
}

#[tokio::test]
async fn requests_are_counted_by_template_and_class_of_status() {
    let server = Server::start(routes()).await;
    for id in 0..3 {
        client()
            .get(server.url(&format!("/things/{id}")))
            .send()
            .await
            .unwrap();
    }
    client().get(server.url("/lost/1")).send().await.unwrap();
    let invented = reqwest::Method::from_bytes(b"BREW").unwrap();
    client()
        .request(invented, server.url("/lost/2"))
        .send()
        .await
        .unwrap();
    let page = client().get(server.url("/metrics")).send().await.unwrap();
    let kind = page.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let page = page.text().await.unwrap();
    for line in [
        r#"chat4all_http_requests_total{method="GET",route="/things/{id}",status="2xx"} 3"#,
        r#"chat4all_http_requests_total{method="GET",route="unmatched",status="4xx"} 1"#,
        r#"chat4all_http_requests_total{method="OTHER",route="unmatched",status="4xx"} 1"#,
        r#"chat4all_http_request_duration_seconds_count{method="GET",route="/things/{id}",status="2xx"} 3"#,
        "chat4all_http_requests_in_flight 1",
        "# EOF",
    ] {
        assert!(page.contains(line), "no `{line}` in\n{page}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_is_counted() {
    let server = Server::start(routes()).await;
    let impatient = client()
        .get(server.url("/slow"))
        .timeout(Duration::from_millis(50))
        .send()
        .await;
    assert!(impatient.unwrap_err().is_timeout());
    let aborted = r#"{method="GET",route="/slow",status="aborted"} 1"#;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let page = server.metrics.encode().unwrap();
        if page.contains(aborted) {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no `{aborted}` in\n{page}"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn readiness_names_what_is_red_and_liveness_does_not_care() {
    let server = Server::start(routes()).await;
    server.checks.register("broker", || async {
        Err("no connection for 12 s".to_owned())
    });
    server.checks.register("postgres", || async { Ok(()) });
    let ready = client().get(server.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    insta::assert_json_snapshot!(ready.json::<Value>().await.unwrap());
    assert_eq!(
        client()
            .get(server.url("/livez"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}
