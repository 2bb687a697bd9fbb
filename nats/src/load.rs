//! What an aggregate's events on the log add up to.

use chat4all_domain::{Aggregate, Revision};
use tokio::time::Instant;

use crate::direct::{self, BATCH, Stored};
use crate::{Log, codec, streams, subject};

/// An aggregate's state and where on the log it stands.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    /// What its events add up to.
    pub state: A,
    /// The revision of its last event; 0 when it has none.
    pub revision: Revision,
    /// The revision of its first event; 0 when it has none.
    pub created: Revision,
    /// How many events it has.
    pub version: u64,
}

impl<A: Aggregate> Default for Loaded<A> {
    fn default() -> Self {
        let (revision, created) = (Revision::NONE, Revision::NONE);
        Self {
            state: A::default(),
            revision,
            created,
            version: 0,
        }
    }
}

/// Whom to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Any replica: quick, perhaps a little behind. Good for decisions that lead to an append, which is checked.
    Replica,
    /// The stream's leader: needed before anything is refused.
    Leader,
}

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log did not answer.
    #[error("failed to read {subject}")]
    Read {
        /// The aggregate's subject.
        subject: String,
        /// Why not.
        #[source]
        source: direct::Error,
    },
    /// An event cannot be read.
    #[error("failed to read event {sequence} of {subject}")]
    Decode {
        /// The aggregate's subject.
        subject: String,
        /// Where.
        sequence: u64,
        /// Why not.
        #[source]
        source: codec::Error,
    },
    /// The envelopes do not follow each other: something is missing or doubled.
    #[error(
        "{subject} has a hole before {sequence}: event {expected} was expected, event {found} follows"
    )]
    Hole {
        /// The aggregate's subject.
        subject: String,
        /// Where.
        sequence: u64,
        /// The number that should come.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Loads an aggregate from its first event.
///
/// # Errors
/// See [`Error`].
pub async fn load<A: Aggregate>(
    log: &Log,
    id: &A::Id,
    from: From,
    deadline: Instant,
) -> Result<Loaded<A>, Error> {
    catch_up(log, id, Loaded::default(), from, deadline).await
}

/// Brings `base` up to date with what was appended since.
///
/// # Errors
/// See [`Error`].
pub async fn catch_up<A: Aggregate>(
    log: &Log,
    id: &A::Id,
    mut base: Loaded<A>,
    from: From,
    deadline: Instant,
) -> Result<Loaded<A>, Error> {
    let (partition, subject) = (log.partition_of(id), subject::of(log.partitions(), id));
    let unread = |source| Error::Read {
        subject: subject.clone(),
        source,
    };
    // From nothing, or at leisure, by the batch; the leader, asked one by one, then only confirms the end.
    if from == From::Replica || base.revision == Revision::NONE {
        let stream = streams::name(partition);
        loop {
            let after = base.revision.get() + 1;
            let batch = direct::batch(log, &stream, &subject, after, deadline)
                .await
                .map_err(unread)?;
            let full = batch.len() == BATCH;
            for stored in &batch {
                fold(&mut base, stored)?;
            }
            if !full {
                break;
            }
        }
    }
    if from == From::Leader {
        loop {
            let after = base.revision.get() + 1;
            let next = direct::next_from_leader(log, partition, &subject, after, deadline);
            let Some(stored) = next.await.map_err(unread)? else {
                break;
            };
            fold(&mut base, &stored)?;
        }
    }
    Ok(base)
}

/// Applies one stored envelope to `base`.
pub(crate) fn fold<A: Aggregate>(base: &mut Loaded<A>, stored: &Stored) -> Result<(), Error> {
    let (subject, sequence) = (&stored.subject, stored.sequence);
    let envelope = codec::decode::<A>(&stored.payload).map_err(|source| Error::Decode {
        subject: subject.clone(),
        sequence,
        source,
    })?;
    let expected = base.version + 1;
    if envelope.version != expected {
        let (subject, found) = (subject.clone(), envelope.version);
        return Err(Error::Hole {
            subject,
            sequence,
            expected,
            found,
        });
    }
    for event in envelope.events {
        base.state.apply(event);
        base.version += 1;
    }
    base.revision = Revision::new(sequence);
    if base.created == Revision::NONE {
        base.created = base.revision;
    }
    Ok(())
}
