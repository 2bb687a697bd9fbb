//! The routes, all of them, and what they lean on.

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{get, post};
use chat4all_nats::parked::Parked;
use chat4all_postgres::Projected;
use chat4all_postgres::read::Reads;
use chat4all_service::auth::Verifier;
use utoipa::openapi::OpenApi;

use crate::live::{self, Live};
use crate::{explorer, graphql, rest};

/// Where reads come from.
#[derive(Clone, Debug)]
pub struct Models {
    /// The rows.
    pub reads: Reads,
    /// How far they have come.
    pub projected: Projected,
    /// What came in and was put aside: the one thing that is not a row.
    pub parked: Parked,
}

/// What the routes share.
#[derive(Clone)]
pub(crate) struct State {
    pub models: Models,
    pub schema: graphql::Schema,
    pub verifier: Verifier,
    pub live: Live,
}

impl FromRef<State> for Verifier {
    fn from_ref(state: &State) -> Self {
        state.verifier.clone()
    }
}

/// The query API.
#[derive(Debug)]
pub struct QueryApi;

impl QueryApi {
    /// Its routes, and the document of those that are REST: `POST /graphql`, the explorer at `GET /graphql`, and the reads
    /// below `/v1`; and what `live` follows: subscriptions at `/graphql`, server-sent events, notifications. Postgres may be away
    /// now; then answers are 503 until it is there. So may the broker; then the dead letters of one kind are left out.
    #[expect(
        clippy::new_ret_no_self,
        reason = "an API is its routes and their document; there is nothing else to hold"
    )]
    pub fn new(models: Models, verifier: Verifier, live: Live) -> (Router, OpenApi) {
        let state = State {
            models,
            schema: graphql::schema(),
            verifier,
            live,
        };
        let documented = rest::routes()
            .merge(live::routes())
            .merge(live::notifications());
        let (rest, document) = documented.split_for_parts();
        let routes = Router::new()
            .route("/graphql", post(graphql::answer).get(live::graphql))
            .route("/graphql/explorer.js", get(explorer::script))
            .route("/graphql/explorer.css", get(explorer::style))
            .merge(rest)
            .with_state(state);
        (routes, document)
    }
}
