//! For unit tests of bodies: what a client is told, as it is told.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use chat4all_domain::{ChannelKind, IdSecret, UserId};
use chat4all_service::http::Json;
use chat4all_service::problem::Problem;
use serde::de::DeserializeOwned;

use crate::Accounts;

pub(crate) const SECRET: IdSecret = IdSecret::new([7; 32]);

pub(crate) fn ana() -> UserId {
    UserId::derive("chat4all", "ana")
}

pub(crate) fn accounts() -> Accounts {
    Accounts::new([("whatsapp-main".parse().unwrap(), ChannelKind::WhatsApp)])
}

/// Reads a body as the server does.
pub(crate) async fn read<T: DeserializeOwned>(body: &str) -> Result<T, Problem> {
    let request = Request::builder().header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_owned())).unwrap();
    Json::from_request(request, &())
        .await
        .map(|Json(body)| body)
}

/// One case of a table that people read: the body, the status, and what is said about which field.
pub(crate) fn told<T>(body: &str, result: Result<T, Problem>) -> String {
    let Err(problem) = result else {
        return format!("{body}\n  is fine\n");
    };
    let mut told = format!(
        "{body}\n  {} {}\n",
        problem.code().status().as_u16(),
        problem.code().as_str()
    );
    if problem.errors().is_empty() {
        told.push_str(&format!("  {}\n", problem.detail()));
    }
    for error in problem.errors() {
        told.push_str(&format!("  {:?}: {}\n", error.pointer, error.detail));
    }
    told
}
