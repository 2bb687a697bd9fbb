//! Up to where a reader knows a conversation.

/// `sequence`: behind it nothing is the reader's to know. The end of the log while they are in the conversation or see
/// everything, where they left for good otherwise, null (which nothing is smaller than) when they were never in it.
///
/// For `cross join lateral (…) known` beside a `wanted` that has a `conversation_id`.
macro_rules! horizon {
    ($user:literal, $sees_all:literal) => {
        concat!(
            "select case
                        when ",
            $sees_all,
            " or bool_or(mine.left_sequence is null) then 9223372036854775807
                        else max(mine.left_sequence)
                    end as sequence
             from participants mine
             where mine.user_id = ",
            $user,
            "  and mine.conversation_id = wanted.conversation_id"
        )
    };
}
pub(super) use horizon;
