//! Indexes that only reads need are made after the rows, in one go each.

use sqlx::PgConnection;

use super::tell;
use crate::Schema;

/// Drops the indexes of `schema` that no constraint rests on; returns the statements that make them again.
pub(super) async fn set_aside(
    connection: &mut PgConnection,
    schema: &Schema,
) -> Result<Vec<String>, sqlx::Error> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select format('drop index %I.%I', n.nspname, c.relname), pg_get_indexdef(c.oid)
         from pg_index as i
         join pg_class as c on c.oid = i.indexrelid
         join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname = $1
           and not exists (select from pg_constraint as held where held.conindid = i.indexrelid)
         order by c.relname",
    )
    .bind(schema.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let mut definitions = Vec::new();
    for (drop, definition) in found {
        tell(connection, drop).await?;
        definitions.push(definition);
    }
    Ok(definitions)
}
