//! Whole tables as text, ordered by key: what a rebuild, and a test, compares.

use std::collections::BTreeMap;

use sqlx::PgConnection;

/// Every table of the read models by name, each row as one line of JSON, ordered by primary key.
///
/// Two folds of the same log give equal dumps. Personal: keep it out of logs. For tests and tools; it is all in memory.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn dump(
    connection: &mut PgConnection,
) -> Result<BTreeMap<&'static str, Vec<String>>, sqlx::Error> {
    let mut tables = BTreeMap::new();
    for (table, statement) in TABLES {
        let rows = sqlx::query_scalar(*statement)
            .fetch_all(&mut *connection)
            .await?;
        tables.insert(*table, rows);
    }
    Ok(tables)
}

/// Rows as text by their key's order. A statement each, because statements are constants.
const TABLES: &[(&str, &str)] = &[
    (
        "conversations",
        "select to_jsonb(t)::text from conversations as t order by conversation_id",
    ),
    (
        "participants",
        "select to_jsonb(t)::text from participants as t order by conversation_id, participant_id, joined_sequence",
    ),
    (
        "messages",
        "select to_jsonb(t)::text from messages as t order by conversation_id, message_id",
    ),
    (
        "deliveries",
        "select to_jsonb(t)::text from deliveries as t order by conversation_id, message_id, n",
    ),
    (
        "delivery_events",
        "select to_jsonb(t)::text from delivery_events as t
         order by conversation_id, message_id, n, sequence, event_index",
    ),
    (
        "readers",
        "select to_jsonb(t)::text from readers as t order by conversation_id, participant_id",
    ),
    (
        "identities",
        "select to_jsonb(t)::text from identities as t order by identity_id",
    ),
    (
        "projector_checkpoint",
        "select to_jsonb(t)::text from projector_checkpoint as t order by partition",
    ),
    (
        "projector_dead_letter",
        "select to_jsonb(t)::text from projector_dead_letter as t order by partition, sequence",
    ),
];
