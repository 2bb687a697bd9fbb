//! Tells a row that the database will never take from a database that is out of sorts.

/// Why the database refused a row: the same row will be refused again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE, `23505`.
    pub code: String,
    /// The constraint that the row breaks, if it is one.
    pub constraint: Option<String>,
}

impl std::fmt::Display for Refusal {
    /// Without the server's own words: they repeat values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the database refused a row (SQLSTATE {})", self.code)?;
        match &self.constraint {
            Some(constraint) => write!(f, ": it breaks {constraint}"),
            None => Ok(()),
        }
    }
}

/// Whether `error` is about what was written, and not about the server's or the connection's state.
///
/// Source: PostgreSQL, appendix A: class 21 (cardinality), 22 (data), 23 (integrity), 54 (program limits: an index entry
/// that is too large, say).
pub fn of(error: &sqlx::Error) -> Option<Refusal> {
    let refused = error.as_database_error()?;
    let code = refused.code()?;
    let about_the_row = ["21", "22", "23", "54"]
        .iter()
        .any(|class| code.starts_with(class));
    about_the_row.then(|| Refusal {
        code: code.into_owned(),
        constraint: refused.constraint().map(str::to_owned),
    })
}
