//! New rows by `COPY`, in its binary form: for a rebuild, which brings thousands at a time and knows that they are new.
//!
//! About half the work of an `insert … select from unnest(…)` for the server, and a fraction of it for us. A row that is
//! there already is an error of the whole `COPY` (there is no `on conflict`), and so of the transaction.
//!
//! Source: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use serde_json::Value;
use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

/// What a binary `COPY` begins with: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// About how many bytes a field takes with its length.
const FIELD_BYTES: usize = 16;
/// The length of a field that is null.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// The moment that `timestamptz` counts from.
const EPOCH: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);
/// The form of `jsonb` that is its text.
const JSONB_TEXT: u8 = 1;

/// Rows of one table.
pub(crate) struct Copy {
    bytes: Vec<u8>,
    columns: i16,
}

impl Copy {
    /// Of a table that is given so many columns, with about so many rows.
    pub fn of(columns: i16, rows: usize) -> Self {
        let about = rows * usize::from(columns.unsigned_abs()) * FIELD_BYTES;
        let mut bytes = Vec::with_capacity(HEADER.len() + about);
        bytes.extend(HEADER);
        Self { bytes, columns }
    }

    /// Begins a row. What follows are its fields, in the order of the statement's columns.
    pub fn row(&mut self) -> &mut Self {
        self.bytes.extend(self.columns.to_be_bytes());
        self
    }

    pub fn put(&mut self, field: impl Field) -> &mut Self {
        let length_at = self.bytes.len();
        self.bytes.extend(NULL);
        if field.write(&mut self.bytes) {
            let length = self.bytes.len() - length_at - NULL.len();
            // A field of 2 GiB is none of ours: an event has less than a megabyte.
            let length = i32::try_from(length).unwrap_or(i32::MAX);
            self.bytes[length_at..length_at + NULL.len()].copy_from_slice(&length.to_be_bytes());
        }
        self
    }

    /// Sends the rows to `statement`, `copy … from stdin (format binary)`.
    pub async fn into(
        mut self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> Result<(), sqlx::Error> {
        self.bytes.extend(TRAILER);
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.bytes).await?;
        copy.finish().await.map(|_| ())
    }
}

/// A value as its column's type has it on the wire.
pub(crate) trait Field {
    /// Appends it; `false` for null, which has nothing.
    fn write(self, to: &mut Vec<u8>) -> bool;
}

impl<F: Field> Field for Option<F> {
    fn write(self, to: &mut Vec<u8>) -> bool {
        self.is_some_and(|field| field.write(to))
    }
}

impl Field for Uuid {
    fn write(self, to: &mut Vec<u8>) -> bool {
        to.extend(self.as_bytes());
        true
    }
}

impl Field for i16 {
    fn write(self, to: &mut Vec<u8>) -> bool {
        to.extend(self.to_be_bytes());
        true
    }
}

impl Field for i32 {
    fn write(self, to: &mut Vec<u8>) -> bool {
        to.extend(self.to_be_bytes());
        true
    }
}

impl Field for i64 {
    fn write(self, to: &mut Vec<u8>) -> bool {
        to.extend(self.to_be_bytes());
        true
    }
}

impl Field for &str {
    fn write(self, to: &mut Vec<u8>) -> bool {
        to.extend(self.as_bytes());
        true
    }
}

impl Field for OffsetDateTime {
    fn write(self, to: &mut Vec<u8>) -> bool {
        // As a parameter is sent by sqlx. Our timestamps have years of four digits: they fit by far.
        let us = (self - EPOCH).whole_microseconds();
        let us = i64::try_from(us).unwrap_or(i64::MAX);
        us.write(to)
    }
}

impl Field for &Value {
    fn write(self, to: &mut Vec<u8>) -> bool {
        to.push(JSONB_TEXT);
        serde_json::to_writer(to, self).expect("a JSON value is written to memory");
        true
    }
}
