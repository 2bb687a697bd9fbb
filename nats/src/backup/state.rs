//! What a stream holds, as the broker counts it.

use serde::{Deserialize, Serialize};

/// Counts and sequences of a stream at one moment; the broker's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Messages.
    pub messages: u64,
    /// Their size on the broker's disk, before compression.
    pub bytes: u64,
    /// Sequence of the first message; one more than `last_seq` when there is none (0 or 1 when there never was one).
    pub first_seq: u64,
    /// Sequence of the last message there ever was; 0 when there never was one.
    pub last_seq: u64,
}

impl State {
    /// Whether every sequence from 1 on is there: so is a partition of the log.
    pub const fn is_whole(&self) -> bool {
        self.messages == self.last_seq && (self.last_seq == 0 || self.first_seq == 1)
    }

    /// Whether a stream in this state can have been one in state `of` some time ago: age may have taken messages from its
    /// beginning, and new ones may have come; nothing else is missing.
    pub fn can_come_from(&self, of: &Self) -> bool {
        let gone = self.first_seq.max(1).checked_sub(of.first_seq.max(1));
        gone.is_some_and(|gone| self.messages.saturating_add(gone) >= of.messages)
            && self.last_seq >= of.last_seq
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    const fn state(messages: u64, first_seq: u64, last_seq: u64) -> State {
        State {
            messages,
            bytes: 0,
            first_seq,
            last_seq,
        }
    }

    #[test]
    fn a_partition_is_whole_when_no_sequence_is_missing() {
        assert!(state(0, 0, 0).is_whole());
        assert!(state(7, 1, 7).is_whole());
        for holed in [state(6, 1, 7), state(6, 2, 7), state(0, 8, 7)] {
            assert!(!holed.is_whole(), "{holed:?}");
        }
    }

    #[test]
    fn a_copy_may_have_lost_its_oldest_messages_and_have_got_new_ones_and_nothing_else() {
        let original = state(5, 3, 9);
        for copy in [original, state(0, 10, 9), state(3, 5, 9), state(6, 3, 10)] {
            assert!(copy.can_come_from(&original), "{copy:?}");
        }
        for other in [
            state(5, 3, 8),
            state(4, 3, 9),
            state(2, 5, 9),
            state(5, 2, 9),
        ] {
            assert!(!other.can_come_from(&original), "{other:?}");
        }
        assert!(state(0, 1, 0).can_come_from(&state(0, 0, 0)));
        assert!(state(0, 0, 0).can_come_from(&state(0, 1, 0)));
    }
}
