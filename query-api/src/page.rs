//! Which part of a list is asked for: Relay's four arguments, the same for GraphQL and REST.

use std::fmt::Display;
use std::str::FromStr;

use crate::failure::Failure;

/// Items of a page when nothing is said.
pub const DEFAULT_SIZE: usize = 50;
/// Most items of a page.
pub const MAX_SIZE: usize = 100;

/// The four arguments as they came in.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The first so many items behind `after`.
    pub first: Option<i64>,
    /// The cursor to start behind.
    pub after: Option<String>,
    /// The last so many items before `before`.
    pub last: Option<i64>,
    /// The cursor to end before.
    pub before: Option<String>,
}

/// From which end the items are counted. They are always listed in the list's own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// `first`: from the beginning on.
    Forward,
    /// `last`: from the end back.
    Backward,
}

/// A page that can be answered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Page<C> {
    /// From which end.
    pub direction: Direction,
    /// 1 to [`MAX_SIZE`].
    pub size: usize,
    /// Only items behind this one.
    pub after: Option<C>,
    /// Only items before this one.
    pub before: Option<C>,
}

impl<C: FromStr<Err: Display>> Page<C> {
    /// Reads the arguments; nothing said is the first [`DEFAULT_SIZE`] items.
    ///
    /// # Errors
    /// [`Failure::Invalid`] names the argument and what would be right.
    pub fn parse(arguments: Arguments) -> Result<Self, Failure> {
        let (direction, size) = match (arguments.first, arguments.last) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid(
                    "last",
                    "`first` and `last` exclude each other; leave one of them out",
                ));
            }
            (None, Some(last)) => (Direction::Backward, size("last", last)?),
            (Some(first), None) => (Direction::Forward, size("first", first)?),
            (None, None) => (Direction::Forward, DEFAULT_SIZE),
        };
        Ok(Self {
            direction,
            size,
            after: cursor("after", arguments.after)?,
            before: cursor("before", arguments.before)?,
        })
    }
}

fn size(argument: &'static str, size: i64) -> Result<usize, Failure> {
    usize::try_from(size)
        .ok()
        .filter(|size| (1..=MAX_SIZE).contains(size))
        .ok_or_else(|| {
            Failure::invalid(
                argument,
                format!("`{argument}` is {size}; a page has 1 to {MAX_SIZE} items"),
            )
        })
}

fn cursor<C: FromStr<Err: Display>>(
    argument: &'static str,
    text: Option<String>,
) -> Result<Option<C>, Failure> {
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error| Failure::invalid(argument, format!("`{argument}` is no cursor: {error}")))
}
