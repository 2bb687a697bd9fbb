//! Columns into the domain's types. A value that does not fit is a broken row, said with the column's name and without
//! the value.

use std::fmt::Display;
use std::str::FromStr;

use chat4all_domain::{Address, Partition, Position, Timestamp};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StringDeserializer};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use time::OffsetDateTime;

/// What does not fit, without what it was.
#[derive(Debug, thiserror::Error)]
#[error("the value does not fit: {0}")]
struct Misfit(String);

fn misfit(column: &str, why: impl Display) -> Error {
    Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(Misfit(why.to_string())),
    }
}

/// A number that cannot be negative.
pub fn count<N: TryFrom<i64, Error: Display>>(row: &PgRow, column: &str) -> Result<N, Error> {
    let number: i64 = row.try_get(column)?;
    N::try_from(number).map_err(|error| misfit(column, error))
}

/// One that may be absent.
pub fn optional_count<N: TryFrom<i64, Error: Display>>(
    row: &PgRow,
    column: &str,
) -> Result<Option<N>, Error> {
    let number: Option<i64> = row.try_get(column)?;
    number
        .map(N::try_from)
        .transpose()
        .map_err(|error| misfit(column, error))
}

/// The number of a delivery within its message.
pub fn number(row: &PgRow) -> Result<u16, Error> {
    let n: i32 = row.try_get("n")?;
    u16::try_from(n).map_err(|error| misfit("n", error))
}

/// The place that `partition` and `sequence_column` name.
pub fn position(row: &PgRow, sequence_column: &str) -> Result<Position, Error> {
    let number: i16 = row.try_get("partition")?;
    let partition = u8::try_from(number)
        .ok()
        .and_then(Partition::new)
        .ok_or_else(|| misfit("partition", "not a partition"))?;
    Ok(Position::new(partition, count(row, sequence_column)?))
}

/// A moment.
pub fn moment(row: &PgRow, column: &str) -> Result<Timestamp, Error> {
    row.try_get::<OffsetDateTime, _>(column)
        .map(Timestamp::from)
}

/// One that may be absent.
pub fn optional_moment(row: &PgRow, column: &str) -> Result<Option<Timestamp>, Error> {
    let moment: Option<OffsetDateTime> = row.try_get(column)?;
    Ok(moment.map(Timestamp::from))
}

/// A text that one of the domain's types reads.
pub fn parsed<T: FromStr>(row: &PgRow, column: &str) -> Result<T, Error> {
    optional_parsed(row, column)?.ok_or_else(|| misfit(column, "it is null"))
}

/// One that may be absent.
pub fn optional_parsed<T: FromStr>(row: &PgRow, column: &str) -> Result<Option<T>, Error> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(str::parse)
        .transpose()
        .map_err(|_| misfit(column, "not a word we know"))
}

/// A text that stands on the log and in the column in the same form: an enum's word, a text, an address.
pub fn word<T: for<'de> Deserialize<'de>>(row: &PgRow, column: &str) -> Result<T, Error> {
    optional_word(row, column)?.ok_or_else(|| misfit(column, "it is null"))
}

/// One that may be absent.
pub fn optional_word<T: for<'de> Deserialize<'de>>(
    row: &PgRow,
    column: &str,
) -> Result<Option<T>, Error> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| {
        let text: StringDeserializer<ValueError> = text.into_deserializer();
        T::deserialize(text)
    })
    .transpose()
    // The library's sentence repeats the value, which may be personal.
    .map_err(|_| misfit(column, "not a word we know"))
}

/// An address in its canonical form.
pub fn optional_address(row: &PgRow, column: &str) -> Result<Option<Address>, Error> {
    optional_word(row, column)
}
