//! Which part of a list is asked for: Relay's four arguments, the same for GraphQL and REST.

use std::fmt::Display;
use std::str::FromStr;

use chat4all_postgres::read::Range;
use chat4all_service::Problem;

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

/// Reads the arguments; nothing said is the first [`DEFAULT_SIZE`] items.
///
/// # Errors
/// 422, naming the argument and what would be right.
pub fn parse<C: FromStr<Err: Display>>(arguments: Arguments) -> Result<Range<C>, Problem> {
    let (from_end, size) = match (arguments.first, arguments.last) {
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                "/last",
                "excludes `first`; leave one of them out",
            ));
        }
        (None, Some(last)) => (true, size("last", last)?),
        (Some(first), None) => (false, size("first", first)?),
        (None, None) => (false, DEFAULT_SIZE),
    };
    Ok(Range {
        after: cursor("after", arguments.after)?,
        before: cursor("before", arguments.before)?,
        size,
        from_end,
    })
}

fn size(argument: &'static str, size: i64) -> Result<usize, Problem> {
    usize::try_from(size)
        .ok()
        .filter(|size| (1..=MAX_SIZE).contains(size))
        .ok_or_else(|| {
            Problem::field(
                format!("/{argument}"),
                format!("is {size}; a page has 1 to {MAX_SIZE} items"),
            )
        })
}

fn cursor<C: FromStr<Err: Display>>(
    argument: &'static str,
    text: Option<String>,
) -> Result<Option<C>, Problem> {
    text.map(|text| text.parse()).transpose().map_err(|error| {
        Problem::field(
            format!("/{argument}"),
            format!("is no cursor of this list: {error}"),
        )
    })
}

/// The page that GraphQL's complexity counts with: what is asked for, within what is possible.
pub fn cost(first: Option<i64>, last: Option<i64>, child: usize) -> usize {
    let size = first
        .or(last)
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(DEFAULT_SIZE);
    size.min(MAX_SIZE).saturating_mul(child).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: Arguments) -> Result<Range<u64>, String> {
        parse(arguments).map_err(|problem| {
            let error = &problem.errors()[0];
            format!("{} {}", error.pointer, error.detail)
        })
    }

    #[test]
    fn nothing_said_is_the_first_fifty() {
        let range = Range {
            after: None,
            before: None,
            size: 50,
            from_end: false,
        };
        assert_eq!(parsed(Arguments::default()), Ok(range));
    }

    #[test]
    fn what_cannot_be_answered_is_refused_with_the_arguments_name() {
        let refused = |first, last, after: Option<&str>| {
            let after = after.map(str::to_owned);
            parsed(Arguments {
                first,
                after,
                last,
                before: None,
            })
            .unwrap_err()
        };
        insta::assert_snapshot!(
            [
                refused(Some(0), None, None),
                refused(Some(101), None, None),
                refused(None, Some(-1), None),
                refused(Some(1), Some(1), None),
                refused(None, None, Some("x")),
            ]
            .join("\n")
        );
    }

    #[test]
    fn the_largest_page_is_the_most_that_is_counted() {
        assert_eq!(cost(None, None, 3), 151);
        assert_eq!(cost(Some(2), None, 3), 7);
        assert_eq!(cost(None, Some(i64::MAX), usize::MAX), usize::MAX);
        assert_eq!(cost(Some(-1), None, 3), 151);
    }
}
