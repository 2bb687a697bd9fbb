//! From rows to columns: a multi-row statement takes one array per column.

/// One column of `rows`.
pub(crate) fn column<'r, R, T>(rows: &'r [R], of: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
