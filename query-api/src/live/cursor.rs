//! How far a subscription has come, as clients hand it back: opaque text.
//!
//! One place per lane that the subscription follows. Of a conversation that is one position, `07-1234`, the same text that
//! commands and queries answer: a client may load what there is and follow from there. Otherwise it is the sequences of all
//! lanes, `12.0.7.…`.

use std::fmt;

use chat4all_domain::{Partition, Position};

/// The text is not a cursor of this subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor of this subscription; take it as it is from an update of the same one")]
pub struct ParseCursorError;

/// Up to where nothing is missing, lane by lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the first lane.
    first: usize,
    sequences: Box<[u64]>,
}

impl Cursor {
    /// The beginning of `count` lanes from `first` on.
    pub fn start(first: usize, count: usize) -> Self {
        let sequences = vec![0; count].into();
        Self { first, sequences }
    }

    /// Reads the cursor of a subscription that follows `count` lanes from `first` on.
    ///
    /// # Errors
    /// The text is that of another subscription, or of none.
    pub fn parse(text: &str, first: usize, count: usize) -> Result<Self, ParseCursorError> {
        if let Ok(position) = text.parse::<Position>() {
            if count != 1 || usize::from(position.partition.number()) != first {
                return Err(ParseCursorError);
            }
            let sequences = [position.sequence].into();
            return Ok(Self { first, sequences });
        }
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let sequences = text.split('.').map(|number| {
            let sequence = digits(number).then(|| number.parse().ok()).flatten();
            sequence.ok_or(ParseCursorError)
        });
        let sequences: Box<[u64]> = sequences.collect::<Result<_, _>>()?;
        // A conversation's cursor names its partition.
        if sequences.len() != count || count == 1 {
            return Err(ParseCursorError);
        }
        Ok(Self { first, sequences })
    }

    /// The place in a lane.
    pub fn get(&self, lane: usize) -> u64 {
        self.sequences[lane - self.first]
    }

    /// Moves the place in a lane forward; backward it does not go.
    pub fn advance(&mut self, lane: usize, sequence: u64) {
        let place = &mut self.sequences[lane - self.first];
        *place = sequence.max(*place);
    }

    /// All places together: to see how much it has moved.
    pub fn sum(&self) -> u64 {
        self.sequences
            .iter()
            .fold(0, |sum, next| sum.saturating_add(*next))
    }

    /// The lanes.
    pub fn lanes(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.sequences.len()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [sequence] = *self.sequences
            && let Some(partition) = u8::try_from(self.first).ok().and_then(Partition::new)
        {
            return Position::new(partition, sequence).fmt(f);
        }
        for (n, sequence) in self.sequences.iter().enumerate() {
            let dot = if n == 0 { "" } else { "." };
            write!(f, "{dot}{sequence}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        let mut one = Cursor::start(7, 1);
        one.advance(7, 1234);
        assert_eq!(one.to_string(), "07-1234");
        assert_eq!(Cursor::parse("07-1234", 7, 1), Ok(one));
        let mut many = Cursor::start(0, 3);
        many.advance(2, 9);
        many.advance(0, u64::MAX);
        many.advance(2, 5);
        assert_eq!(many.to_string(), format!("{}.0.9", u64::MAX));
        assert_eq!(Cursor::parse(&many.to_string(), 0, 3), Ok(many));
    }

    #[test]
    fn the_cursor_of_another_subscription_is_refused() {
        for (text, first, count) in [
            ("06-1", 7, 1),
            ("07-1", 0, 8),
            ("1.2", 0, 3),
            ("1.2.3.4", 0, 3),
            ("", 0, 3),
            ("1..2", 0, 3),
            ("1.+2.3", 0, 3),
            ("12", 7, 1),
            ("99999999999999999999.0.0", 0, 3),
        ] {
            assert_eq!(
                Cursor::parse(text, first, count),
                Err(ParseCursorError),
                "{text}"
            );
        }
    }
}
