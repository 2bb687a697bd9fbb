//! A part of several lists one behind the other, with cursors, in both directions.

use chat4all_postgres::read::{Range, Slice};

/// Several lists, each with cursors of its own.
pub trait Lists {
    /// What they hold.
    type Item;
    /// Where something stands in one of them.
    type Cursor: Copy;
    /// Why one could not be read.
    type Error;
    /// How many there are.
    fn number(&self) -> usize;
    /// A part of one of them, counted from 0.
    fn part(
        &self,
        list: usize,
        range: Range<Self::Cursor>,
    ) -> impl Future<Output = Result<Slice<Self::Item>, Self::Error>> + Send;
}

/// The part of `all`, one list behind the other, that `range` names; its cursors say in which list they stand. Lists are read
/// one after the other, and none that the part does not need: to fill it, or to know whether there is more beyond an end.
pub async fn walk<L: Lists>(
    all: &L,
    range: Range<(usize, L::Cursor)>,
) -> Result<Slice<L::Item>, L::Error> {
    let lists = all.number();
    if lists == 0 {
        return Ok(Slice::default());
    }
    // From the end, everything is the same in a mirror.
    let mirrored = range.from_end;
    let list_at = |step: usize| if mirrored { lists - 1 - step } else { step };
    let (near, far) = match mirrored {
        false => (range.after, range.before),
        true => (range.before, range.after),
    };
    let step_of = |cursor: (usize, L::Cursor)| list_at(cursor.0);
    let (first, last) = (near.map_or(0, step_of), far.map_or(lists - 1, step_of));
    if first > last {
        // The cursors stand in each other's place: between them there is nothing, and beyond them both.
        return Ok(Slice {
            items: Vec::new(),
            more_before: true,
            more_after: true,
        });
    }
    let within = |list: usize, cursor: Option<(usize, L::Cursor)>| match cursor {
        Some((at, cursor)) if at == list => Some(cursor),
        Some(_) | None => None,
    };

    let (mut parts, mut missing) = (Vec::new(), range.size);
    let (mut more_near, mut more_far) = (false, false);
    for step in first..=last {
        let list = list_at(step);
        let asked = Range {
            after: within(list, range.after),
            before: within(list, range.before),
            size: missing.max(1),
            from_end: range.from_end,
        };
        let part = all.part(list, asked).await?;
        let (beyond_near, beyond_far) = match mirrored {
            false => (part.more_before, part.more_after),
            true => (part.more_after, part.more_before),
        };
        if step == first {
            more_near = beyond_near;
        }
        more_far = beyond_far || (missing == 0 && !part.items.is_empty());
        if missing > 0 {
            missing -= part.items.len();
            parts.push(part.items);
        }
        if more_far {
            break;
        }
    }
    for step in last + 1..lists {
        more_far = more_far || has_any(all, list_at(step)).await?;
    }
    for step in (0..first).rev() {
        more_near = more_near || has_any(all, list_at(step)).await?;
    }
    if mirrored {
        parts.reverse();
    }
    let (more_before, more_after) = match mirrored {
        false => (more_near, more_far),
        true => (more_far, more_near),
    };
    Ok(Slice {
        items: parts.into_iter().flatten().collect(),
        more_before,
        more_after,
    })
}

async fn has_any<L: Lists>(all: &L, list: usize) -> Result<bool, L::Error> {
    let one = Range {
        after: None,
        before: None,
        size: 1,
        from_end: false,
    };
    Ok(!all.part(list, one).await?.items.is_empty())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::ops::RangeInclusive;

    use futures::FutureExt;

    use super::*;

    /// Lists whose items are 1, 2, … and their own cursors.
    struct Counted {
        lengths: [u32; 3],
        /// No more may be asked for at once.
        most: usize,
        /// No other may be asked.
        may_be_read: RangeInclusive<usize>,
    }

    impl Lists for Counted {
        type Item = (usize, u32);
        type Cursor = u32;
        type Error = Infallible;
        fn number(&self) -> usize {
            self.lengths.len()
        }
        async fn part(
            &self,
            list: usize,
            range: Range<u32>,
        ) -> Result<Slice<Self::Item>, Infallible> {
            assert!(range.size <= self.most, "no more is read than is missing");
            assert!(
                self.may_be_read.contains(&list),
                "list {list} is not needed"
            );
            Ok(part(self.lengths[list], range).map(|n| (list, n)))
        }
    }

    fn walked(all: &Counted, range: Range<(usize, u32)>) -> Slice<(usize, u32)> {
        let walked = walk(all, range).now_or_never();
        walked.expect("nothing is waited for").unwrap()
    }

    fn part(length: u32, range: Range<u32>) -> Slice<u32> {
        let after = range.after.unwrap_or(0);
        let before = range.before.unwrap_or(u32::MAX);
        let mut items: Vec<u32> = (1..=length).filter(|n| *n > after && *n < before).collect();
        if range.from_end {
            items.reverse();
        }
        items.truncate(range.size + 1);
        let behind = (
            range
                .after
                .is_some_and(|after| (1..=length).any(|n| n <= after)),
            range
                .before
                .is_some_and(|before| (1..=length).any(|n| n >= before)),
        );
        Slice::cut(items, range.size, range.from_end, behind)
    }

    /// The same from one list in which everything stands.
    fn expected(lengths: [u32; 3], range: Range<(usize, u32)>) -> Slice<(usize, u32)> {
        let all: Vec<_> = (0..3)
            .flat_map(|list| (1..=lengths[list]).map(move |n| (list, n)))
            .collect();
        let mut items: Vec<_> = all.clone();
        items.retain(|item| range.after.is_none_or(|after| *item > after));
        items.retain(|item| range.before.is_none_or(|before| *item < before));
        if range.from_end {
            items.reverse();
        }
        items.truncate(range.size + 1);
        let behind = (
            range
                .after
                .is_some_and(|after| all.iter().any(|item| *item <= after)),
            range
                .before
                .is_some_and(|before| all.iter().any(|item| *item >= before)),
        );
        Slice::cut(items, range.size, range.from_end, behind)
    }

    #[test]
    fn three_lists_are_read_as_if_they_were_one() {
        let cursors: Vec<Option<(usize, u32)>> = (0..3)
            .flat_map(|list| (1..=3).map(move |n| Some((list, n))))
            .chain([None])
            .collect();
        let mut compared = 0;
        for code in 0..27_u32 {
            let lengths = [code % 3, code / 3 % 3, code / 9];
            for (after, before) in cursors
                .iter()
                .flat_map(|after| cursors.iter().map(move |before| (*after, *before)))
            {
                let crossed = after
                    .zip(before)
                    .is_some_and(|(after, before)| after.0 > before.0);
                for (size, from_end) in (1..=7).flat_map(|size| [(size, false), (size, true)]) {
                    let range = Range {
                        after,
                        before,
                        size,
                        from_end,
                    };
                    let all = Counted {
                        lengths,
                        most: size,
                        may_be_read: 0..=2,
                    };
                    let walked = walked(&all, range);
                    if crossed {
                        assert_eq!(walked.items, []);
                        continue;
                    }
                    assert_eq!(walked, expected(lengths, range), "{lengths:?} {range:?}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 20_000, "{compared}");
    }

    #[test]
    fn a_list_that_the_part_does_not_need_is_not_read() {
        let range = Range {
            after: None,
            before: None,
            size: 2,
            from_end: false,
        };
        let all = Counted {
            lengths: [3, 3, 3],
            most: 2,
            may_be_read: 0..=0,
        };
        let first = walked(&all, range);
        assert_eq!(
            (first.items, first.more_after),
            (vec![(0, 1), (0, 2)], true)
        );
    }
}
