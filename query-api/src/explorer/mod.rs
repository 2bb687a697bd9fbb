//! `GET /graphql`: a page to try queries in and to read the schema. It is three files in the binary and asks nothing of
//! any other host; its policy would not let it.

use axum::http::{HeaderName, header};

type Headers = [(HeaderName, &'static str); 4];

/// Only our own files, no inline code, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const fn headers(content_type: &'static str) -> Headers {
    [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ]
}

/// The page.
pub async fn page() -> (Headers, &'static str) {
    (
        headers("text/html; charset=utf-8"),
        include_str!("page.html"),
    )
}

/// Its code.
pub async fn script() -> (Headers, &'static str) {
    (
        headers("text/javascript; charset=utf-8"),
        include_str!("explorer.js"),
    )
}

/// Its looks.
pub async fn style() -> (Headers, &'static str) {
    (
        headers("text/css; charset=utf-8"),
        include_str!("explorer.css"),
    )
}
