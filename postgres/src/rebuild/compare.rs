//! Live against shadow: every row of every table, by key.
//!
//! Tables and keys come from the catalogue, so that a table that a later migration adds is compared, too. What is said
//! about a row is its key and the names of columns, never a value: keys are ids, values may be personal.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tokio::sync::Mutex;
use tokio::try_join;

use super::{Schemas, tell};

/// How many rows that differ are named, per table.
const NAMED: usize = 20;

/// What a comparison came to, table by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Every table that was compared.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ, or that only one side has.
    pub differing: u64,
    /// The first of them by key; at most 20.
    pub differences: Vec<Difference>,
}

/// One row that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its key: `conversation_id=0193…, message_id=0193…`.
    pub key: String,
    /// In which way.
    pub how: How,
}

/// In which way a row differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The log has it, the live table does not.
    Missing,
    /// The live table has it, and nothing on the log says so.
    Extra,
    /// These columns differ.
    Columns(Vec<String>),
}

impl Comparison {
    /// Rows that differ, of all tables.
    pub fn differing(&self) -> u64 {
        self.tables.iter().map(|table| table.differing).sum()
    }
    /// Whether live and shadow are the same.
    pub fn is_equal(&self) -> bool {
        self.differing() == 0
    }
    /// Rows that were compared, of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Which rows to look at.
#[derive(Clone, Debug)]
pub(super) enum Which {
    /// Every row.
    All,
    /// Those that either side wrote after a [`Moment`].
    Since(Moment),
}

/// A moment in the life of the database: everything it had committed is in every row that is older.
#[derive(Clone, Debug)]
pub struct Moment(String);

/// Everything as it was at a moment, for as long as the connection that took it lives.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The moment.
    pub moment: Moment,
    /// What another session can see it by.
    name: String,
}

/// What a transaction begins with that sees everything as it is at its first statement.
const BEGIN: &str = "begin isolation level repeatable read read only";

/// Begins a transaction that goes on seeing everything as it is now.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn begin(connection: &mut PgConnection) -> Result<Snapshot, sqlx::Error> {
    tell(connection, BEGIN).await?;
    let taken = "select pg_snapshot_xmin(pg_current_snapshot())::xid::text, pg_export_snapshot()";
    let (moment, name) = sqlx::query_as(taken).fetch_one(connection).await?;
    Ok(Snapshot {
        moment: Moment(moment),
        name,
    })
}

/// Compares every row as it was at that moment, two tables at a time; they mean something only at equal checkpoints.
/// `connection` is the one that has begun.
///
/// # Errors
/// Postgres is away, or refuses.
pub async fn compare(
    connection: &mut PgConnection,
    another: &mut PgConnection,
    schemas: &Schemas,
    snapshot: &Snapshot,
) -> Result<Comparison, sqlx::Error> {
    let same = format!("{BEGIN}; set transaction snapshot '{}'", snapshot.name);
    tell(another, same).await?;
    let jobs = Mutex::new(tables(connection, schemas).await?.into_iter());
    let (mut tables, more) = try_join!(
        work(connection, schemas, &jobs),
        work(another, schemas, &jobs)
    )?;
    tables.extend(more);
    tables.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Comparison { tables })
}

/// Compares what nobody has begun yet, one after the other.
async fn work(
    connection: &mut PgConnection,
    schemas: &Schemas,
    jobs: &Mutex<impl Iterator<Item = Named>>,
) -> Result<Vec<Table>, sqlx::Error> {
    let mut compared = Vec::new();
    loop {
        let Some(named) = jobs.lock().await.next() else {
            return Ok(compared);
        };
        compared.push(table(connection, schemas, &named, &Which::All).await?);
    }
}

/// A table that is to be compared.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Named {
    /// Its name, quoted.
    name: String,
    /// The columns of its primary key, quoted.
    key: Vec<String>,
}

/// The tables of the shadow, the largest first. What the migrations write down about themselves (when, how long) is no read model.
pub(super) async fn tables(
    connection: &mut PgConnection,
    schemas: &Schemas,
) -> Result<Vec<Named>, sqlx::Error> {
    sqlx::query_as(
        "select quote_ident(c.relname) as name, array_agg(quote_ident(a.attname) order by k.place) as key
         from pg_class as c
         join pg_namespace as n on n.oid = c.relnamespace
         join pg_index as i on i.indrelid = c.oid and i.indisprimary
         cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
         join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
         where n.nspname = $1
           and c.relkind = 'r'
           and c.relname <> '_sqlx_migrations'
         group by c.oid, c.relname
         order by pg_relation_size(c.oid) desc, c.relname",
    )
    .bind(schemas.shadow.as_str())
    .fetch_all(connection)
    .await
}

/// Rows of both sides with the same key, as `l` and `s`.
fn pairs(schemas: &Schemas, table: &str, key: &[String], which: &Which) -> String {
    let key = key.join(", ");
    let (live, shadow) = (&schemas.live, &schemas.shadow);
    match which {
        Which::All => format!("{live}.{table} as l full join {shadow}.{table} as s using ({key})"),
        Which::Since(Moment(moment)) => {
            let recent = format!("age(xmin) <= age('{moment}'::xid)");
            format!(
                "(select {key} from {live}.{table} where {recent}
                  union
                  select {key} from {shadow}.{table} where {recent}) as recent
                 left join {live}.{table} as l using ({key})
                 left join {shadow}.{table} as s using ({key})"
            )
        }
    }
}

/// Compares one table.
pub(super) async fn table(
    connection: &mut PgConnection,
    schemas: &Schemas,
    Named { name, key }: &Named,
    which: &Which,
) -> Result<Table, sqlx::Error> {
    let pairs = pairs(schemas, name, key, which);
    let first = &key[0];
    let counts = format!(
        "select count(*), count(*) filter (where row(l.*) is distinct from row(s.*)) from {pairs}"
    );
    let counts = sqlx::query(AssertSqlSafe(counts))
        .fetch_one(&mut *connection)
        .await?;
    let count = |column: i64| u64::try_from(column).unwrap_or_default();
    let (rows, differing) = (count(counts.try_get(0)?), count(counts.try_get(1)?));
    let mut differences = Vec::new();
    if differing > 0 {
        let named: Vec<String> = key
            .iter()
            .map(|column| format!("'{}=' || {column}", column.trim_matches('"')))
            .collect();
        let statement = format!(
            "select concat_ws(', ', {}), l.{first} is null, s.{first} is null,
                    array(select name
                          from jsonb_each(to_jsonb(l)) as live (name, value)
                          where value is distinct from to_jsonb(s) -> name
                          order by name)
             from {pairs}
             where row(l.*) is distinct from row(s.*)
             order by {}
             limit {NAMED}",
            named.join(", "),
            key.join(", ")
        );
        let found = sqlx::query(AssertSqlSafe(statement))
            .fetch_all(&mut *connection)
            .await?;
        for row in found {
            let how = match (row.try_get(1)?, row.try_get(2)?) {
                (true, _) => How::Missing,
                (false, true) => How::Extra,
                (false, false) => How::Columns(row.try_get(3)?),
            };
            let key = row.try_get(0)?;
            differences.push(Difference { key, how });
        }
    }
    Ok(Table {
        name: name.clone(),
        rows,
        differing,
        differences,
    })
}
