//! `POST /graphql`: one request in, one answer out.

use async_graphql::{Request, Response, Value};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use chat4all_service::auth::Caller;
use chat4all_service::http::Json;
use serde::Deserialize;
use serde_json::Map;

use super::error;
use crate::api;
use crate::session::Session;

/// What a client sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    query: String,
    operation_name: Option<String>,
    variables: Option<Map<String, serde_json::Value>>,
    /// For protocol extensions; none is supported, and none is refused.
    #[serde(rename = "extensions")]
    _extensions: Option<Map<String, serde_json::Value>>,
}

/// Answers one query. The status is that of what went wrong when the whole answer is affected: 503 when the rows were
/// away for any part of it, otherwise 200 as long as there is data. A list that says what it leaves out is an answer.
pub async fn answer(
    State(state): State<api::State>,
    caller: Caller,
    Json(asked): Json<Asked>,
) -> axum::response::Response {
    let (session, driver) = Session::new(state.models.clone(), caller);
    let mut request = Request::new(asked.query).data(session);
    if let Some(name) = asked.operation_name {
        request = request.operation_name(name);
    }
    if let Some(variables) = asked.variables {
        let variables = serde_json::Value::Object(variables);
        request = request.variables(async_graphql::Variables::from_json(variables));
    }
    let mut response = driver.drive(state.schema.execute(request)).await;
    response.errors.iter_mut().for_each(error::name);
    let status = status(&response);
    let mut answer = (status, axum::Json(response)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = answer.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn status(response: &Response) -> StatusCode {
    let affecting = || {
        response
            .errors
            .iter()
            .filter(|error| !error::leaves_an_answer(error))
    };
    let codes = || affecting().filter_map(error::code);
    let statuses = || codes().map(|code| code.status());
    let gravest = statuses().filter(StatusCode::is_server_error).max();
    match (gravest, &response.data) {
        (Some(status), _) => status,
        (None, Value::Null) => statuses().next().unwrap_or(StatusCode::OK),
        (None, _) => StatusCode::OK,
    }
}
