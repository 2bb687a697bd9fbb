//! Collects what is wrong with a body, so that a client hears of everything at once.

use std::fmt::Display;

use chat4all_service::problem::Problem;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Option<Problem>);

impl Mistakes {
    /// Something is wrong with the field at `pointer`.
    pub fn add(&mut self, pointer: impl Into<String>, detail: impl Display) {
        let detail = detail.to_string();
        self.0 = Some(match self.0.take() {
            Some(problem) => problem.and_field(pointer, detail),
            None => Problem::field(pointer, detail),
        });
    }

    /// The value, or `None` and one mistake more.
    pub fn check<T, E: Display>(&mut self, pointer: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(pointer, error)).ok()
    }

    /// The value, if there was no mistake at all.
    ///
    /// # Panics
    /// If there is neither a value nor a mistake: whoever returns `None` must say why.
    pub fn unless_any<T>(self, value: Option<T>) -> Result<T, Problem> {
        match self.0 {
            Some(problem) => Err(problem),
            None => Ok(value.expect("what is missing was added as a mistake")),
        }
    }
}
