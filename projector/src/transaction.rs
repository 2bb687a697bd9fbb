//! A batch into the database: checkpoints, rows and dead letters in one transaction.

use chat4all_domain::Partition;
use chat4all_nats::{Change, subject};
use chat4all_postgres::refusal::{self, Refusal};
use chat4all_postgres::{checkpoint, dead_letter};
use sqlx::{Connection, PgConnection};

use crate::batch::{Batch, Event};
use crate::rows::{Rows, Writing};

/// Why a batch was not written. Nothing of it is in the tables, unless the connection broke while it was committed; the
/// checkpoints tell.
#[derive(Debug)]
pub(crate) enum Error {
    /// A checkpoint stands elsewhere: another projector was faster, or a commit we heard nothing of went through.
    Superseded,
    /// The events of a partition have a hole.
    Hole(Partition),
    /// The database will never take something in this batch.
    Refused(Refused),
    /// Postgres is away, or out of sorts.
    Postgres(sqlx::Error),
}

/// What the database refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub why: Refusal,
    pub source: sqlx::Error,
}

impl From<sqlx::Error> for Error {
    fn from(source: sqlx::Error) -> Self {
        match refusal::of(&source) {
            Some(why) => Self::Refused(Refused { why, source }),
            None => Self::Postgres(source),
        }
    }
}

/// Writes what follows from `batch`. After a refusal the connection can be used again.
pub(crate) async fn write(connection: &mut PgConnection, batch: &Batch) -> Result<(), Error> {
    write_with(connection, batch, &mut Rows::default(), Writing::Upsert).await
}

/// Writes what follows from `batch`, where nobody else writes and every row was made by the events before. `rows` has rows
/// of the batches before, and those of this one afterwards. After any error it is of no use; after a refusal, [`write()`]
/// may still take the batch, or say which event it is.
pub(crate) async fn copy(
    connection: &mut PgConnection,
    batch: &Batch,
    rows: &mut Rows,
) -> Result<(), Error> {
    write_with(connection, batch, rows, Writing::Copy).await
}

async fn write_with(
    connection: &mut PgConnection,
    batch: &Batch,
    rows: &mut Rows,
    writing: Writing,
) -> Result<(), Error> {
    let runs = batch.runs().map_err(Error::Hole)?;
    let mut tx = connection.begin().await?;
    let written = write_in(&mut tx, (batch, &runs), rows, writing).await;
    match written {
        Ok(()) => {
            tx.commit().await?;
            rows.committed();
            Ok(())
        }
        Err(error) => {
            // If this fails too, the connection is gone, and the transaction with it.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

async fn write_in(
    tx: &mut PgConnection,
    (batch, runs): (&Batch, &[checkpoint::Run]),
    rows: &mut Rows,
    writing: Writing,
) -> Result<(), Error> {
    // First, because it makes a second projector wait before it has read anything.
    if !checkpoint::advance(tx, runs).await? {
        return Err(Error::Superseded);
    }
    let changes: Vec<&Change> = batch
        .events()
        .iter()
        .filter_map(|event| event.change.as_ref().ok())
        .collect();
    rows.load(tx, &changes, writing).await?;
    for change in changes {
        rows.fold(change);
    }
    rows.write(tx, writing).await?;
    let dead: Vec<_> = batch.events().iter().filter_map(dead_letter_of).collect();
    if !dead.is_empty() {
        dead_letter::insert(tx, &dead).await?;
    }
    Ok(())
}

fn dead_letter_of(event: &Event) -> Option<dead_letter::Row> {
    let error = event.change.as_ref().err()?;
    Some(dead_letter::Row {
        partition: i16::from(event.position.partition.number()),
        sequence: checkpoint::to_i64(event.position.sequence),
        subject: event.stored.subject.clone(),
        error: error.clone(),
        payload: event.stored.payload.to_vec(),
        recorded_at: event.stored_at().to_datetime(),
        event_types: event.event_types(),
        conversation_id: subject::conversation(&event.stored.subject).map(|id| id.uuid()),
    })
}
