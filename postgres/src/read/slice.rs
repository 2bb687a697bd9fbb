//! A part of an ordered list, and what lies beyond its ends.

/// Which part of an ordered list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<C> {
    /// Only items behind this one.
    pub after: Option<C>,
    /// Only items before this one.
    pub before: Option<C>,
    /// At most so many, from 1.
    pub size: usize,
    /// Count from the end of the range instead of from its beginning.
    pub from_end: bool,
}

/// That part, in the list's own order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether the list has visible items before the first of them.
    pub more_before: bool,
    /// Whether the list has visible items behind the last of them.
    pub more_after: bool,
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            more_before: false,
            more_after: false,
        }
    }
}

impl<T> Slice<T> {
    /// Cuts what was read to size. `read` is the range counted from its own end, with one item more than asked for if
    /// there is one; `behind_cursors` says whether the list goes on beyond the range at its beginning and at its end.
    pub fn cut(
        mut read: Vec<T>,
        size: usize,
        from_end: bool,
        behind_cursors: (bool, bool),
    ) -> Self {
        let more_in_range = read.len() > size;
        read.truncate(size);
        if from_end {
            read.reverse();
        }
        Self {
            items: read,
            more_before: behind_cursors.0 || (from_end && more_in_range),
            more_after: behind_cursors.1 || (!from_end && more_in_range),
        }
    }
}

impl<T> Slice<T> {
    /// The same part with each item as something else.
    pub fn map<U>(self, to: impl FnMut(T) -> U) -> Slice<U> {
        Slice {
            items: self.items.into_iter().map(to).collect(),
            more_before: self.more_before,
            more_after: self.more_after,
        }
    }
}

/// One item more than the page, to know whether there are more.
pub(super) fn limit(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}
