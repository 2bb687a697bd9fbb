//! Up to where all is done. Who owns a partition goes on from there; who owned it before has no say in it any more.

use std::time::Duration;

use async_nats::HeaderMap;
use chat4all_nats::lease::Lease;
use chat4all_service::Chain;
use tracing::warn;

use crate::bucket::{Bucket, Error};

/// After trouble, look again.
const AGAIN: Duration = Duration::from_secs(1);

/// One owner's hand on the mark of its partition.
pub(crate) struct Mark {
    bucket: Bucket,
    key: String,
    /// What it was at when this owner saw it last.
    revision: u64,
}

impl Mark {
    /// The mark, as soon as the broker lets us, and where it is: 0 when it is not there, or says nothing.
    pub async fn open(bucket: Bucket, key: String) -> (Self, u64) {
        let found = loop {
            match bucket.last(&key).await {
                Ok(found) => break found,
                Err(error) => warn!(error = %Chain(&error), "mark {key} cannot be read now"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let place = found.as_ref().and_then(|value| {
            let text = String::from_utf8_lossy(&value.bytes);
            text.parse().ok()
        });
        let revision = found.map_or(0, |value| value.revision);
        let mark = Self {
            bucket,
            key,
            revision,
        };
        (mark, place.unwrap_or(0))
    }

    /// Moves it. `false` when it was not moved: somebody else has written, so try again; or the lease may be somebody else's
    /// by now, and the mark theirs to move.
    ///
    /// # Errors
    /// [`Error::Away`]; it may have been moved all the same.
    pub async fn set(
        &mut self,
        place: u64,
        beside: HeaderMap,
        lease: &Lease,
    ) -> Result<bool, Error> {
        if !lease.renewed_lately() {
            return Ok(false);
        }
        let (key, value) = (&self.key, place.to_string().into());
        let set = self.bucket.update_with(key, value, beside, self.revision);
        match set.await {
            Ok(revision) => {
                self.revision = revision;
                Ok(true)
            }
            // With the lease in hand it was the last word of an owner before, or one of ours of which we did not hear.
            Err(Error::Outdated { .. }) => {
                let found = self.bucket.last(&self.key).await?;
                self.revision = found.map_or(0, |value| value.revision);
                Ok(false)
            }
            Err(error @ Error::Away { .. }) => Err(error),
        }
    }
}
