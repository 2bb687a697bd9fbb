//! Connections, with a schema and with limits: every statement ends, and a session that hangs gives back its locks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio::time::timeout;

/// How long one statement may take before the server ends it.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a statement may wait for a lock.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a session may hold a transaction open without doing anything: a frozen projector gives way after this.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long making a connection may take, and waiting for a free one of the pool.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The schema the tables live in: `chat4all`. A rebuild folds into another one and swaps the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(String);

/// The text is not a schema's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a schema's name is 1 to 48 characters of a-z, 0-9 and `_`, and begins with a letter")]
pub struct ParseSchemaError;

impl Schema {
    /// The name; needs no quoting.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The schema beside this one that is named after it: `chat4all_rebuild`.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        Self(format!("{}_{suffix}", self.0))
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self("chat4all".to_owned())
    }
}

impl FromStr for Schema {
    type Err = ParseSchemaError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !begins || text.len() > 48 || !text.bytes().all(allowed) {
            return Err(ParseSchemaError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where Postgres is, and who we are there.
#[derive(Clone)]
pub struct Config {
    options: PgConnectOptions,
    schema: Schema,
}

impl fmt::Debug for Config {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({}, schema {})", self.place(), self.schema)
    }
}

/// The text is not the address of a Postgres database. Never repeats it: it may contain a password.
#[derive(Debug, thiserror::Error)]
#[error("a database URL looks like `postgres://user:password@host:5432/database`")]
pub struct ParseUrlError;

impl Config {
    /// Reads `postgres://user:password@host:5432/database`. `name` is shown in `pg_stat_activity`.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(url: &str, schema: Schema, name: &str) -> Result<Self, ParseUrlError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(ParseUrlError);
        }
        let options = url.parse::<PgConnectOptions>();
        let ms = |limit: Duration| limit.as_millis().to_string();
        let options = options
            .map_err(|_| ParseUrlError)?
            .application_name(name)
            .options([
                ("search_path", schema.as_str()),
                ("timezone", "UTC"),
                ("statement_timeout", &ms(STATEMENT_TIMEOUT)),
                ("lock_timeout", &ms(LOCK_TIMEOUT)),
                (
                    "idle_in_transaction_session_timeout",
                    &ms(IDLE_IN_TRANSACTION_TIMEOUT),
                ),
            ])
            .disable_statement_logging();
        Ok(Self { options, schema })
    }

    /// Where it is, for people: `127.0.0.1:5432/chat4all`.
    pub fn place(&self) -> String {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        let database = self.options.get_database().unwrap_or_default();
        format!("{host}:{port}/{database}")
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The same database, with the tables of another schema.
    #[must_use]
    pub fn with_schema(&self, schema: Schema) -> Self {
        let options = self.options.clone();
        let options = options.options([("search_path", schema.as_str())]);
        Self { options, schema }
    }

    /// One connection for an operator's long statements: they end when they are done, or when the one who asked is gone
    /// (noticed within a second).
    ///
    /// # Errors
    /// Nobody there, or no answer within [`CONNECT_TIMEOUT`].
    pub async fn connect_for_long(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.options.clone().options([
            ("statement_timeout", "0"),
            ("client_connection_check_interval", "1000"),
            ("work_mem", "64MB"),
            ("maintenance_work_mem", "128MB"),
        ]);
        connect(&options).await
    }

    /// One connection whose commits do not wait for the disk (`synchronous_commit = off`): for who can repeat what a
    /// crash of the server takes back, as the projector can.
    ///
    /// # Errors
    /// Nobody there, or no answer within [`CONNECT_TIMEOUT`].
    pub async fn connect_to_fold(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self
            .options
            .clone()
            .options([("synchronous_commit", "off")]);
        connect(&options).await
    }

    /// A pool of connections as [`connect_to_fold`](Self::connect_to_fold) makes them, at most `size`.
    pub fn pool_to_fold(&self, size: u32) -> PgPool {
        let options = self
            .options
            .clone()
            .options([("synchronous_commit", "off")]);
        PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_lazy_with(options)
    }

    /// One connection.
    ///
    /// # Errors
    /// Nobody there, or no answer within [`CONNECT_TIMEOUT`].
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        connect(&self.options).await
    }

    /// A pool for queries, of at most `size` connections, made when they are needed: Postgres may be away now.
    pub fn pool(&self, size: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_lazy_with(self.options.clone())
    }

    /// A pool for the query API, of at most `size` connections, made when they are needed. Somebody waits for an answer:
    /// a connection must be had within `acquire`, and the server ends a statement after `statement`.
    pub fn pool_to_read(&self, size: u32, acquire: Duration, statement: Duration) -> PgPool {
        let statement_ms = statement.as_millis().to_string();
        let options = self.options.clone().options([
            ("statement_timeout", statement_ms.as_str()),
            ("default_transaction_read_only", "on"),
        ]);
        PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(acquire)
            .connect_lazy_with(options)
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options))
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_name_needs_no_quoting() {
        assert_eq!(Schema::default(), "chat4all".parse().unwrap());
        for bad in ["", "Chat", "1a", "a-b", "a\"b", "a b", &"a".repeat(49)] {
            assert_eq!(bad.parse::<Schema>(), Err(ParseSchemaError), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = "postgres://app:secret@db:5433/chat";
        let config = Config::new(url, Schema::default(), "test").unwrap();
        assert_eq!(
            format!("{config:?}"),
            "Config(db:5433/chat, schema chat4all)"
        );
        let error = Config::new("mysql:secret", Schema::default(), "test").unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
