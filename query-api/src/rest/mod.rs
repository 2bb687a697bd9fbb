//! REST: the reads of GraphQL for those who want plain paths.

mod body;
mod conversations;
mod messages;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::State;

/// The routes with their document.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(conversations::list))
        .routes(routes!(conversations::show))
        .routes(routes!(messages::list))
        .routes(routes!(messages::show))
}
