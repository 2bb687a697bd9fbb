//! REST: the reads of GraphQL for those who want plain paths.

mod body;
mod conversations;
mod messages;

pub use body::Problem as ProblemBody;
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_names_every_route_and_what_it_can_answer() {
        let (_, document) = super::routes().split_for_parts();
        let document = serde_json::to_value(document).unwrap();
        let mut lines = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let answers: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
                let parameters: Vec<_> = operation["parameters"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                lines.push(format!("{method} {path} {parameters:?} {answers:?}"));
                assert_eq!(operation["security"][0]["bearer"], serde_json::json!([]));
            }
        }
        lines.sort();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
