//! Cursors as clients see them: opaque text, made of what the list is ordered by.

use std::fmt;
use std::str::FromStr;

use chat4all_domain::{ConversationId, Position, Timestamp};
use chat4all_postgres::read::{Range, conversations};
use chat4all_service::Problem;

/// Where a conversation stands in the list of conversations: `1763787388123-<uuid>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConversationCursor(pub conversations::Cursor);

impl From<&conversations::Conversation> for ConversationCursor {
    fn from(conversation: &conversations::Conversation) -> Self {
        Self(conversations::Cursor {
            last_activity_at: conversation.last_activity_at,
            id: conversation.id,
        })
    }
}

impl fmt::Display for ConversationCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.last_activity_at.unix_ms(), self.0.id)
    }
}

/// The text is not a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("take it as it is from `startCursor`, `endCursor` or an edge")]
pub struct ParseCursorError;

impl FromStr for ConversationCursor {
    type Err = ParseCursorError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // From 1 on: the time may be negative.
        let dash = text
            .char_indices()
            .skip(1)
            .find_map(|(at, c)| (c == '-').then_some(at))
            .ok_or(ParseCursorError)?;
        let (unix_ms, id) = (&text[..dash], &text[dash + 1..]);
        let unix_ms = unix_ms.parse().map_err(|_| ParseCursorError)?;
        let id: ConversationId = id.parse().map_err(|_| ParseCursorError)?;
        Ok(Self(conversations::Cursor {
            last_activity_at: Timestamp::from_unix_ms(unix_ms),
            id,
        }))
    }
}

/// A range of conversations, in the words of the rows.
pub fn of_conversations(range: Range<ConversationCursor>) -> Range<conversations::Cursor> {
    Range {
        after: range.after.map(|cursor| cursor.0),
        before: range.before.map(|cursor| cursor.0),
        size: range.size,
        from_end: range.from_end,
    }
}

/// A range of the messages of a conversation that began at `started`, in the words of the rows.
///
/// # Errors
/// 422 for the cursor of a conversation in another partition: its sequences count something else.
pub fn of_messages(range: Range<Position>, started: Position) -> Result<Range<u64>, Problem> {
    let sequence = |argument: &str, cursor: Option<Position>| match cursor {
        Some(cursor) if cursor.partition != started.partition => Err(Problem::field(
            format!("/{argument}"),
            "is a cursor of another conversation; take one from this list",
        )),
        cursor => Ok(cursor.map(|cursor| cursor.sequence)),
    };
    Ok(Range {
        after: sequence("after", range.after)?,
        before: sequence("before", range.before)?,
        size: range.size,
        from_end: range.from_end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        for unix_ms in [-1, 0, 1_763_787_388_123] {
            let cursor = ConversationCursor(conversations::Cursor {
                last_activity_at: Timestamp::from_unix_ms(unix_ms),
                id: "6f1c2f0e-77a1-4e0b-9d6e-6a5f0c4a11d1".parse().unwrap(),
            });
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in [
            "",
            "-",
            "1",
            "1-",
            "é-x",
            "x-6f1c2f0e-77a1-4e0b-9d6e-6a5f0c4a11d1",
        ] {
            assert_eq!(
                text.parse::<ConversationCursor>(),
                Err(ParseCursorError),
                "{text}"
            );
        }
    }
}
