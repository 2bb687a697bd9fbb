//! One OpenAPI document for everything that a process serves.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::{Info, OpenApi};

/// Where it is served.
pub const PATH: &str = "/v1/openapi.json";

/// The parts' documents as one; `None` without parts.
pub fn joined(documents: Vec<OpenApi>) -> Option<OpenApi> {
    let mut joined = documents.into_iter().reduce(|mut one, other| {
        one.merge(other);
        one
    })?;
    joined.info = Info::new("Chat4All", env!("CARGO_PKG_VERSION"));
    joined.info.description = Some(
        "Commands: 2xx means that it is on the log, on disk. Reads: `at_least` waits for a position."
            .to_owned(),
    );
    Some(joined)
}

/// `GET` of [`PATH`].
///
/// # Errors
/// The document cannot be written as JSON.
pub fn serve(document: &OpenApi) -> serde_json::Result<Router> {
    let json = serde_json::to_value(document)?;
    let answer = move || std::future::ready(Json(json.clone()));
    Ok(Router::new().route(PATH, get(answer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_about_this_system_whatever_the_parts_say_of_themselves() {
        let part = |title| OpenApi::new(Info::new(title, "0"), utoipa::openapi::Paths::new());
        let document = joined(vec![part("a library"), part("another")]).unwrap();
        let json = serde_json::to_value(document).unwrap();
        assert_eq!(json["info"]["title"], "Chat4All");
        assert_eq!(json["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(json["info"]["contact"].is_null());
        assert!(joined(vec![]).is_none());
    }
}
