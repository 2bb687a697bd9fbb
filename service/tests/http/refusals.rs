use axum::Router;
use axum::routing::{get, post};
use chat4all_service::http::{Json, Path, Query};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::server::{Server, client};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what matters is whether it can be read")]
struct Post {
    conversation_id: Uuid,
    content: Content,
    #[serde(default)]
    tags: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what matters is whether it can be read")]
struct Content {
    r#type: Kind,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Text,
    Image,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what matters is whether it can be read")]
struct Page {
    first: Option<u32>,
    after: Option<String>,
}

fn routes() -> Router {
    let posted = |Json(_): Json<Post>| async { "read" };
    let page = |Path(_): Path<Uuid>, Query(_): Query<Page>| async { "read" };
    Router::new()
        .route("/posts", post(posted))
        .route("/posts/{id}", get(page))
}

const ID: &str = "0193b3a8-7c11-7000-8000-000000000001";

/// The answer without what differs from run to run.
async fn refused(request: reqwest::RequestBuilder) -> String {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let mut body: Value = answer.json().await.unwrap();
    assert_eq!(body["status"], status.as_u16());
    assert_eq!(
        body["type"],
        format!("urn:chat4all:problem:{}", body["code"].as_str().unwrap())
    );
    assert_eq!(body["trace_id"].as_str().map(str::len), Some(32));
    let body = body.as_object_mut().unwrap();
    let code = body["code"].as_str().unwrap();
    let errors = body
        .get("errors")
        .map_or_else(|| body["detail"].to_string(), Value::to_string);
    format!("{} {code} {errors}", status.as_u16())
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_told_what_where_and_what_would_be_right() {
    let server = Server::start(routes()).await;
    let good =
        format!(r#"{{"conversation_id":"{ID}","content":{{"type":"text","text":"my text"}}}}"#);
    let url = server.url("/posts");
    let post = |body: String| {
        client()
            .post(&url)
            .header("content-type", "application/json; charset=utf-8")
            .body(body)
    };
    assert_eq!(post(good.clone()).send().await.unwrap().status(), 200);

    let mut answers = vec![];
    for (what, body) in [
        ("missing", good.replace(r#","text":"my text""#, "")),
        (
            "wrong type",
            good.replace(r#""text":"my text""#, r#""text":5"#),
        ),
        (
            "unknown field",
            good.replace(r#""text":"my text""#, r#""text":"my text","colour":1"#),
        ),
        (
            "unknown variant",
            good.replace(r#""type":"text""#, r#""type":"my text""#),
        ),
        (
            "several",
            good.replace(r#""type":"text""#, r#""type":"video""#)
                .replace(r#"{"conv"#, r#"{"colour":1,"conv"#),
        ),
        ("array", "[]".to_owned()),
        (
            "array of the fields",
            format!(r#" ["{ID}",{{"type":"text","text":"my text"}},[1]]"#),
        ),
        (
            "array of a nested object's fields",
            format!(r#"{{"conversation_id":"{ID}","content":["text","my text"]}}"#),
        ),
        ("array cut off", r#"["my text""#.to_owned()),
        (
            "item",
            good.replace(r#"{"conv"#, r#"{"tags":[1,"my text"],"conv"#),
        ),
        (
            "range",
            good.replace(r#"{"conv"#, r#"{"tags":[1,2,300],"conv"#),
        ),
        ("id", good.replace(ID, "my text")),
        (
            "twice",
            good.replace(r#"{"conv"#, r#"{"tags":[],"tags":[],"conv"#),
        ),
        ("cut off", good[..40].to_owned()),
        ("empty", String::new()),
        ("not JSON", "{my text}".to_owned()),
        ("trailing", format!("{good} my text")),
    ] {
        let answer = refused(post(body)).await;
        assert!(!answer.contains("my text"), "content repeated: {answer}");
        answers.push(format!("{what}: {answer}"));
    }
    for kind in [None, Some("text/plain"), Some("application/jsonp")] {
        let mut request = client().post(&url).body(good.clone());
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        answers.push(format!("{kind:?}: {}", refused(request).await));
    }
    insta::assert_snapshot!(answers.join("\n"));
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_named() {
    let server = Server::start(routes()).await;
    let mut answers = vec![];
    for path in [
        "/posts/not-a-uuid".to_owned(),
        "/posts/%ff".to_owned(),
        format!("/posts/{ID}?first=my+text"),
        format!("/posts/{ID}?first=-1"),
        format!("/posts/{ID}?colour=my+text"),
        format!("/posts/{ID}?first=1&first=2"),
    ] {
        let answer = refused(client().get(server.url(&path))).await;
        assert!(!answer.contains("my text"), "content repeated: {answer}");
        answers.push(format!("{path}: {answer}"));
    }
    insta::assert_snapshot!(answers.join("\n"));
    let fine = client()
        .get(server.url(&format!("/posts/{ID}?first=1&after=x")))
        .send()
        .await;
    assert_eq!(fine.unwrap().status(), 200);
}
