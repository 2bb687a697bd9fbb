//! How far each partition's rows have come.

use std::collections::BTreeMap;

use chat4all_domain::{Partition, Position};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use super::{Error, Reads, column};

/// The last event that is in the rows, by partition. A partition that nobody has folded yet is left out.
///
/// # Errors
/// See [`Error`].
pub async fn all(reads: &Reads) -> Result<BTreeMap<Partition, u64>, Error> {
    let rows: Vec<Reached> = reads
        .all(sqlx::query_as(
            "select partition, sequence from projector_checkpoint",
        ))
        .await?;
    Ok(rows
        .into_iter()
        .map(|Reached(position)| (position.partition, position.sequence))
        .collect())
}

struct Reached(Position);

impl FromRow<'_, PgRow> for Reached {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        column::position(row, "sequence").map(Self)
    }
}
