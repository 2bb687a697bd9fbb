//! GraphQL: one file per type, and the same session behind it that REST has.

mod connection;
mod conversation;
mod dead_letter;
mod dead_letter_list;
mod dead_letter_notice;
mod delivery;
mod endpoint;
mod error;
mod global_id;
mod identity;
mod limits;
mod live;
mod live_event;
mod message;
mod participant;
mod query;
mod scalar;
mod words;

use async_graphql::{EmptyMutation, SDLExportOptions};

pub use endpoint::answer;
pub use error::{name, refusal};
pub use live::Watch;

/// The schema with its limits.
pub type Schema = async_graphql::Schema<query::Query, EmptyMutation, live::Subscriptions>;

/// Makes the schema.
pub fn schema() -> Schema {
    Schema::build(query::Query, EmptyMutation, live::Subscriptions)
        .extension(limits::Limits)
        .finish()
}

/// The schema as clients see it, in GraphQL's schema language.
pub fn sdl() -> String {
    let mut sdl = schema().sdl_with_options(SDLExportOptions::new().sorted_fields());
    sdl.truncate(sdl.trim_end().len());
    sdl.push('\n');
    sdl
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_schema_is_the_one_that_is_committed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
        let sdl = super::sdl();
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &sdl).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == sdl,
            "query-api/schema.graphql is not the schema any more; if clients can live with the change, renew it with\n\
             UPDATE_SCHEMA=1 cargo test --workspace --lib the_schema_is_the_one_that_is_committed\n\
             and commit the difference"
        );
    }
}
