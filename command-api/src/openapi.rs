//! The routes, and the OpenAPI 3.1 document made from them: what is served is what is described.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{self, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi, ToResponse, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandApi;
use crate::commands::{
    add_participant, mark_read, redrive, remove_participant, send_message, start_conversation,
};

/// Every route with its description.
pub(crate) fn routes() -> OpenApiRouter<CommandApi> {
    let mut routes = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(send_message::send_message))
        .routes(routes!(start_conversation::start_conversation))
        .routes(routes!(add_participant::add_participant))
        .routes(routes!(remove_participant::remove_participant))
        .routes(routes!(mark_read::mark_read))
        .routes(routes!(redrive::redrive));
    everywhere(routes.get_openapi_mut());
    routes
}

/// `GET /v1/openapi.json`. The document is written once.
pub(crate) fn serve(document: openapi::OpenApi) -> Router {
    let json = document
        .to_json()
        .expect("a document is text, lists and maps");
    let answer = move || async move { ([(CONTENT_TYPE, "application/json")], json) };
    Router::new().route("/v1/openapi.json", get(answer))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Chat4All commands",
        description = "POST in, events out. 2xx means that it is on the log, on disk.",
    ),
    modifiers(&BearerToken),
    security(("bearer" = [])),
    components(
        schemas(Problem, FieldProblem),
        responses(Malformed, Unauthorized, Forbidden, NotFound, Conflict, TooLarge, Unprocessable, Unavailable, LogFull),
    ),
)]
struct Document;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let jwt = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(jwt));
    }
}

/// What every route may answer.
fn everywhere(document: &mut openapi::OpenApi) {
    let common = [
        ("400", "Malformed"),
        ("401", "Unauthorized"),
        ("403", "Forbidden"),
        ("413", "TooLarge"),
    ];
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.post, &mut path.delete].into_iter().flatten();
        for operation in operations {
            for (status, name) in common {
                let response: RefOr<Response> = Ref::from_response_name(name).into();
                operation
                    .responses
                    .responses
                    .insert(status.to_owned(), response);
            }
        }
    }
}

/// What went wrong (RFC 9457). Branch on `code`.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes what chat4all_service::problem writes; never made itself"
)]
pub(crate) struct Problem {
    /// `urn:chat4all:problem:<code>`
    r#type: String,
    /// What it is, in a few words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was wrong and what would be right.
    detail: String,
    /// Stable: clients branch on it.
    #[schema(example = "validation")]
    code: String,
    /// What is wrong with which field.
    errors: Option<Vec<FieldProblem>>,
    /// Joins the answer with the logs.
    trace_id: Option<String>,
}

/// What is wrong with one field.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "describes what chat4all_service::problem writes; never made itself"
)]
pub(crate) struct FieldProblem {
    /// JSON pointer into the body; for parameters and headers `/` and the name.
    #[schema(example = "/content/text")]
    pointer: String,
    /// What was wrong and what would be right.
    detail: String,
}

macro_rules! problems {
    ($($name:ident = $description:literal;)+) => {$(
        #[derive(ToResponse)]
        #[response(description = $description, content_type = "application/problem+json")]
        #[expect(dead_code, reason = "describes an answer; never made itself")]
        pub(crate) struct $name(Problem);
    )+};
}

problems! {
    Malformed = "`malformed`: the body is not JSON";
    Unauthorized = "`unauthorized`: no token, or not a valid one";
    Forbidden = "`forbidden`: the token lacks a scope";
    NotFound = "`not_found`: there is no such conversation or message, or you are not in it";
    Conflict = "`conflict`: the conversation does not allow this, or nothing has failed; too many changes at once";
    TooLarge = "`payload_too_large`: more than 256 KiB";
    Unprocessable = "`validation`, `idempotency_mismatch`: see `errors`";
    Unavailable = "`unavailable`: not stored; `unknown_outcome`: perhaps stored, repeat with the same key; \
                   `not_yet_projected`: this instance is not as far as `at_least`";
    LogFull = "`log_full`: nothing new is taken in";
}

#[cfg(test)]
mod tests;
