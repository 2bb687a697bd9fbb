//! Reading a known part of a stream by subject: for who was away and has to see what came meanwhile.
//!
//! Guarantee: what is returned has no hole, and an empty answer means that there is nothing more up to the end that was
//! asked for, even when a replica is behind: then the leader has the last word. Limit: `up_to` must be a place that the
//! stream has come to.

use tokio::time::Instant;

use crate::direct::{self, Request};
use crate::{Log, ReadError, Stored};

/// A part of a stream: the messages on one subject between two places, both included.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The subject; wildcards are allowed.
    pub subject: &'a str,
    /// From this sequence on.
    pub from: u64,
    /// Up to this sequence.
    pub up_to: u64,
}

/// Messages at a time.
const BATCH: usize = 100;
/// The answer ends behind the message that makes it this large, in bytes.
const MAX_BYTES: usize = 64 * 1024;

impl Log {
    /// The first messages of a range, in order: at most 100, and about 64 KiB. Empty when the range holds no more.
    ///
    /// # Errors
    /// [`ReadError`] when the log does not answer by `deadline`.
    pub async fn read_range(
        &self,
        range: Range<'_>,
        deadline: Instant,
    ) -> Result<Vec<Stored>, ReadError> {
        if range.from > range.up_to {
            return Ok(Vec::new());
        }
        let request = Request::Following {
            seq: range.from.max(1),
            batch: BATCH,
            next_by_subj: range.subject,
            max_bytes: Some(MAX_BYTES),
        };
        let mut found = direct::several(self.client(), range.stream, &request, deadline).await?;
        if found.is_empty() {
            // A replica that is behind has less than there is.
            let (stream, subject) = (range.stream, range.subject);
            let next = direct::next_on(self, stream, subject, range.from, deadline).await?;
            found.extend(next);
        }
        found.retain(|stored| stored.sequence <= range.up_to);
        Ok(found)
    }

    /// The sequence of the last message of a stream, as its leader knows it; 0 when it never had one.
    ///
    /// # Errors
    /// [`ReadError`] when the broker does not answer by `deadline`.
    pub async fn last_of_stream(&self, stream: &str, deadline: Instant) -> Result<u64, ReadError> {
        let asked = tokio::time::timeout_at(deadline, self.jetstream().get_stream(stream));
        match asked.await {
            Ok(Ok(stream)) => Ok(stream.cached_info().state.last_sequence),
            Ok(Err(_)) | Err(_) => Err(ReadError::Unanswered),
        }
    }
}
