//! Slices as Relay connections.

use async_graphql::OutputType;
use async_graphql::connection::{Connection, Edge};
use chat4all_postgres::read::Slice;

/// A slice whose items have a cursor each.
pub fn connection<T, N: OutputType>(
    slice: Slice<T>,
    cursor: impl Fn(&T) -> String,
    node: impl Fn(T) -> N,
) -> Connection<String, N> {
    let mut connection = Connection::new(slice.more_before, slice.more_after);
    let edge = |item: T| Edge::new(cursor(&item), node(item));
    connection.edges.extend(slice.items.into_iter().map(edge));
    connection
}
