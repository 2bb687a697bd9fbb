//! How large a query may be, and what a client is told whose query is larger.
//!
//! The library has limits of its own, but their errors say neither the limit nor how far it was exceeded. A query that only
//! asks for the schema may be deeper: tools ask for types of types of types, and it costs no statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextParseQuery, NextValidation,
};
use async_graphql::parser::types::{ExecutableDocument, Selection};
use async_graphql::{ServerError, ServerResult, ValidationResult, Variables};
use chat4all_service::Problem;

/// Fields within fields.
const DEPTH: usize = 12;
/// The same, for queries of the schema alone: what graphql-js 17 asks for, and some.
const DEPTH_OF_INTROSPECTION: usize = 20;
/// One per field; what stands in a page counts as often as the page has items.
const COMPLEXITY: usize = 2_000;

/// Refuses queries that are too deep or too complex.
pub struct Limits;

impl ExtensionFactory for Limits {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Checked::default())
    }
}

#[derive(Default)]
struct Checked {
    schema_only: AtomicBool,
}

#[async_graphql::async_trait::async_trait]
impl Extension for Checked {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(ctx, query, variables).await?;
        self.schema_only
            .store(asks_only_for_the_schema(&document), Ordering::Relaxed);
        Ok(document)
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let found = next.run(ctx).await?;
        let deepest = if self.schema_only.load(Ordering::Relaxed) {
            DEPTH_OF_INTROSPECTION
        } else {
            DEPTH
        };
        if found.depth > deepest {
            return Err(refusal(format!(
                "is {} levels deep; {deepest} are possible: ask for what is further in by its id, in a query of its own",
                found.depth
            )));
        }
        if found.complexity > COMPLEXITY {
            return Err(refusal(format!(
                "has a complexity of {}; {COMPLEXITY} are possible: ask for fewer fields or smaller pages (each field \
                 counts 1, and as often as the pages it stands in have items)",
                found.complexity
            )));
        }
        Ok(found)
    }
}

fn refusal(detail: String) -> Vec<ServerError> {
    vec![super::error::refusal(&Problem::field("/query", detail))]
}

/// Whether every field at the top of every operation is one of the schema's own.
fn asks_only_for_the_schema(document: &ExecutableDocument) -> bool {
    document.operations.iter().all(|(_, operation)| {
        let selections = &operation.node.selection_set.node.items;
        selections.iter().all(|selection| match &selection.node {
            Selection::Field(field) => field.node.name.node.starts_with("__"),
            Selection::FragmentSpread(_) | Selection::InlineFragment(_) => false,
        })
    })
}
