//! How far each partition has been folded. A checkpoint moves in the same transaction as the rows, and only from where
//! the writer believes it to be: of two projectors on one partition the slower is refused, and no row is doubled.

use std::collections::BTreeMap;

use chat4all_domain::{Partition, Timestamp};
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use crate::columns::column;

/// A run of events of one partition without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their partition.
    pub partition: Partition,
    /// The sequence of the first.
    pub first: u64,
    /// The sequence of the last.
    pub last: u64,
    /// When the last was recorded.
    pub recorded_at: Timestamp,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event folded; 0 for none.
    pub sequence: u64,
    /// When that event was recorded.
    pub recorded_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct Row {
    partition: i16,
    sequence: i64,
    recorded_at: Option<OffsetDateTime>,
}

/// Makes sure that each of `partitions` has a checkpoint, at 0 if it is new.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn ensure(
    connection: &mut PgConnection,
    partitions: &[Partition],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into projector_checkpoint (partition, sequence)
         select partition, 0
         from unnest($1::smallint[]) as wanted (partition)
         on conflict on constraint projector_checkpoint_pk do nothing",
    )
    .bind(column(partitions, |p| i16::from(p.number())))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Where every partition stands.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn read<'e>(
    executor: impl sqlx::PgExecutor<'e>,
) -> Result<BTreeMap<Partition, Checkpoint>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "select partition, sequence, recorded_at
         from projector_checkpoint",
    )
    .fetch_all(executor)
    .await?;
    let known = |row: Row| {
        let partition = Partition::new(u8::try_from(row.partition).ok()?)?;
        let checkpoint = Checkpoint {
            sequence: u64::try_from(row.sequence).unwrap_or_default(),
            recorded_at: row.recorded_at.map(Timestamp::from),
        };
        Some((partition, checkpoint))
    };
    Ok(rows.into_iter().filter_map(known).collect())
}

/// Moves each run's partition from just before its first event to its last. `false` when one of them stands elsewhere:
/// somebody else has moved it, and nothing of this transaction may be committed.
///
/// Holds the checkpoints until the transaction ends: a second writer waits here, and then is refused.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn advance(connection: &mut PgConnection, runs: &[Run]) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "update projector_checkpoint as c
         set sequence = run.last,
             recorded_at = run.recorded_at
         from unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
              as run (partition, first, last, recorded_at)
         where c.partition = run.partition
           and c.sequence = run.first - 1",
    )
    .bind(column(runs, |run| i16::from(run.partition.number())))
    .bind(column(runs, |run| to_i64(run.first)))
    .bind(column(runs, |run| to_i64(run.last)))
    .bind(column(runs, |run| run.recorded_at.to_datetime()))
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == runs.len() as u64)
}

/// A stream sequence as a column: at a million events a second, 2^63 is 292,000 years away.
pub fn to_i64(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
