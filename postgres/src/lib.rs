//! The read models in Postgres.
