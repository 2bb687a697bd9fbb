//! Indexes that only reads need are made after the rows, in one go each.

use sqlx::PgConnection;

use super::tell;
use crate::Schema;

/// An index that is made after the rows.
#[derive(Debug)]
pub(super) struct Index {
    /// Its table, as [`shadow`](super::shadow) names tables.
    pub table: String,
    /// The statement that makes it.
    pub definition: String,
}

/// Drops the indexes of `schema` that no constraint rests on.
pub(super) async fn set_aside(
    connection: &mut PgConnection,
    schema: &Schema,
) -> Result<Vec<Index>, sqlx::Error> {
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "select format('drop index %I.%I', n.nspname, c.relname), format('%I.%I', n.nspname, t.relname),
                pg_get_indexdef(c.oid)
         from pg_index as i
         join pg_class as t on t.oid = i.indrelid
         join pg_class as c on c.oid = i.indexrelid
         join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname = $1
           and not exists (select from pg_constraint as held where held.conindid = i.indexrelid)
         order by c.relname",
    )
    .bind(schema.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let mut indexes = Vec::new();
    for (drop, table, definition) in found {
        tell(connection, drop).await?;
        indexes.push(Index { table, definition });
    }
    Ok(indexes)
}
