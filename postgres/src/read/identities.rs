//! People outside. A reader knows those they share or shared a conversation with.

use std::collections::BTreeMap;

use chat4all_domain::{Address, ChannelKind, IdentityId, Position, Text, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::slice::limit;
use super::{Error, Range, Reader, Reads, Slice, column};

/// Somebody outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Names them.
    pub id: IdentityId,
    /// The channel's kind.
    pub kind: ChannelKind,
    /// Their address there.
    pub address: Address,
    /// What they call themselves.
    pub name: Option<Text>,
    /// First contact.
    pub first_seen_at: Timestamp,
    /// The event that made it.
    pub position: Position,
}

/// The identities under `ids`, those that `reader` knows.
///
/// # Errors
/// See [`Error`].
pub async fn by_id(
    reads: &Reads,
    reader: Reader,
    ids: &[IdentityId],
) -> Result<BTreeMap<IdentityId, Identity>, Error> {
    let wanted: Vec<Uuid> = ids.iter().map(IdentityId::uuid).collect();
    let rows: Vec<Identity> = reads
        .all(
            sqlx::query_as(
                "select i.*
                 from unnest($1::uuid[]) as wanted (identity_id)
                 join identities i using (identity_id)
                 where $3
                    or exists (
                        select from participants theirs
                        join participants mine using (conversation_id)
                        where theirs.identity_id = i.identity_id
                          and mine.user_id = $2
                          and (mine.left_sequence is null or theirs.joined_sequence < mine.left_sequence)
                    )",
            )
            .bind(wanted)
            .bind(reader.user.uuid())
            .bind(reader.sees_all),
        )
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// A part of the list of identities that `reader` knows, by id. Everybody's are walked by primary key and stop at the
/// page's end; of one's own, all are collected first.
///
/// # Errors
/// See [`Error`].
pub async fn page(
    reads: &Reads,
    reader: Reader,
    range: Range<IdentityId>,
) -> Result<Slice<Identity>, Error> {
    let statement = match (reader.sees_all, range.from_end) {
        (true, false) => FIRST_OF_ALL,
        (true, true) => LAST_OF_ALL,
        (false, false) => FIRST_OF_MINE,
        (false, true) => LAST_OF_MINE,
    };
    let rows: Vec<PageRow> = reads
        .all(
            sqlx::query_as(statement)
                .bind(reader.user.uuid())
                .bind(range.after.map(|id| id.uuid()))
                .bind(range.before.map(|id| id.uuid()))
                .bind(limit(range.size)),
        )
        .await?;
    let behind_cursors = rows
        .first()
        .map_or((false, false), |row| row.behind_cursors);
    let identities = rows.into_iter().filter_map(|row| row.identity);
    Ok(Slice::cut(
        identities.collect(),
        range.size,
        range.from_end,
        behind_cursors,
    ))
}

macro_rules! mine {
    () => {
        "with seen as materialized (
             select i.*
             from (
                 select distinct theirs.identity_id
                 from participants mine
                 join participants theirs using (conversation_id)
                 where mine.user_id = $1
                   and theirs.identity_id is not null
                   and (mine.left_sequence is null or theirs.joined_sequence < mine.left_sequence)
             ) known
             join identities i using (identity_id)
         ) "
    };
}
macro_rules! all {
    () => {
        "with seen as not materialized (
             select i.* from identities i where $1::uuid is not null
         ) "
    };
}
/// The probes beyond the ends are ordered, so that they walk the index even when there is nothing to find; without a cursor
/// nothing is compared with null, and nothing found.
macro_rules! page {
    ($order:literal) => {
        concat!(
            "select ends.*, page.*
             from (
                 select coalesce((
                            select true from seen
                            where identity_id <= $2
                            order by identity_id desc
                            limit 1
                        ), false) as more_before,
                        coalesce((
                            select true from seen
                            where identity_id >= $3
                            order by identity_id
                            limit 1
                        ), false) as more_after
             ) ends
             left join lateral (
                 select seen.*
                 from seen
                 where identity_id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
                   and identity_id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                 order by ",
            $order,
            "    limit $4
             ) page on true
             order by ",
            $order
        )
    };
}
const FIRST_OF_ALL: &str = concat!(all!(), page!("identity_id "));
const LAST_OF_ALL: &str = concat!(all!(), page!("identity_id desc "));
const FIRST_OF_MINE: &str = concat!(mine!(), page!("identity_id "));
const LAST_OF_MINE: &str = concat!(mine!(), page!("identity_id desc "));

struct PageRow {
    behind_cursors: (bool, bool),
    /// None: the part is empty.
    identity: Option<Identity>,
}

impl FromRow<'_, PgRow> for PageRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let id: Option<Uuid> = row.try_get("identity_id")?;
        Ok(Self {
            behind_cursors: (row.try_get("more_before")?, row.try_get("more_after")?),
            identity: id.map(|_| Identity::from_row(row)).transpose()?,
        })
    }
}

impl FromRow<'_, PgRow> for Identity {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: IdentityId::new(row.try_get("identity_id")?),
            kind: column::parsed(row, "kind")?,
            address: column::word(row, "address")?,
            name: column::optional_word(row, "name")?,
            first_seen_at: column::moment(row, "first_seen_at")?,
            position: column::position(row, "first_sequence")?,
        })
    }
}
