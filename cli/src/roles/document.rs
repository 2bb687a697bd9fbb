//! One OpenAPI document for everything that a process serves.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::OpenApi;

/// The parts' documents as one; `None` without parts.
pub fn joined(documents: Vec<OpenApi>) -> Option<OpenApi> {
    documents.into_iter().reduce(|mut one, other| {
        one.merge(other);
        one
    })
}

/// `GET /v1/openapi.json`.
///
/// # Errors
/// The document cannot be written as JSON.
pub fn serve(document: &OpenApi) -> serde_json::Result<Router> {
    let json = serde_json::to_value(document)?;
    Ok(Router::new().route(
        "/v1/openapi.json",
        get(move || std::future::ready(Json(json.clone()))),
    ))
}
