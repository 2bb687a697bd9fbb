//! From rows to columns: a multi-row statement takes one array per column.

use std::borrow::Borrow;

/// One column of `rows`.
pub(crate) fn column<'r, R, T>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// Rows, whoever owns them.
pub(crate) fn borrowed<R>(rows: &[impl Borrow<R>]) -> Vec<&R> {
    rows.iter().map(Borrow::borrow).collect()
}
