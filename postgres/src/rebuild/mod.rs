//! What a rebuild does in Postgres: a second set of tables beside the live ones, compared with them, and put in their
//! place.
//!
//! Four schemas, named after the live one. The names are swapped, never rows: who reads or writes through the
//! `search_path` finds the other tables with the next statement, prepared or not, because the server throws away what it
//! had resolved when a schema is renamed.
//!
//! Source: docs/adr/0014-rebuild.md.

pub mod compare;
mod grants;
mod indexes;
pub mod shadow;
pub mod swap;
pub mod turn;

use crate::Schema;

/// The schemas of a rebuild.
#[derive(Clone, Debug)]
pub struct Schemas {
    /// What everybody reads: `chat4all`.
    pub live: Schema,
    /// What is being folded: `chat4all_rebuild`. There is one only while a rebuild is at work, or was killed.
    pub shadow: Schema,
    /// What was live until a moment ago: `chat4all_replaced`. Gone, or renamed to `old`, in the next.
    pub replaced: Schema,
    /// What somebody wanted to keep: `chat4all_old`. Never dropped by a rebuild.
    pub old: Schema,
}

impl Schemas {
    /// Those around `live`.
    pub fn of(live: &Schema) -> Self {
        Self {
            live: live.clone(),
            shadow: live.beside("rebuild"),
            replaced: live.beside("replaced"),
            old: live.beside("old"),
        }
    }
}

/// Tells Postgres something for which no parameters can be bound. Its names come from [`Schema`] and the catalogue.
async fn tell(
    connection: &mut sqlx::PgConnection,
    statement: impl Into<String>,
) -> Result<(), sqlx::Error> {
    // Unprepared: it is said once.
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.into()))
        .execute(connection)
        .await
        .map(|_| ())
}
