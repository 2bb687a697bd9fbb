//! Copies of the broker's streams, and streams made from copies: what `chat4all backup` and `restore` do at the broker.
//!
//! A copy is the broker's own snapshot: it keeps sequences, holes, headers and times, all of which we rest on. Nothing
//! else could: a stream that is written anew, message by message, has neither the holes nor the times of the old one.
//! Each stream's copy is what the stream was at one moment; the moments differ, and [`contents`] says why their order
//! matters. Consumers are not copied: whoever reads sets its durable to its own position before it reads.
//!
//! While a restore is under way every stream it has made carries a mark, [`RESTORING`]. Nobody opens a log with such a
//! mark, and `provision` adds nothing beside it: half of a log, completed with empty streams, would be taken for a whole.
//!
//! Source: docs/adr/0015-backup.md.

mod heal;
mod restore;
mod snapshot;
mod state;

pub use heal::{Error as HealError, identities};
pub use restore::{Error as RestoreError, Upload};
pub use snapshot::{Error as SnapshotError, Snapshot};
pub use state::State;

use std::collections::{BTreeMap, HashMap};

use async_nats::jetstream;
use futures::TryStreamExt as _;

use crate::streams::{self, Layout};

/// Key in a stream's metadata: the backup it was made from, while not all of it is there.
pub const RESTORING: &str = "chat4all.restoring";
/// Key in a stream's metadata: the backup it was made from, once all of it was there. Nobody rests on it but a restore that is
/// repeated: it then knows that there is nothing left to do.
pub const RESTORED: &str = "chat4all.restored";

/// The streams of a backup, in the order in which they must be copied:
///
/// 1. `KV_LANES`: a mark says that everything below it has had its effect. Older marks are lower, so those copied before
///    the log are true of the log.
/// 2. `KV_CHANNEL_STATE`: what an operator decided about an account cannot be learnt again.
/// 3. `KV_REDRIVES`: how far a redrive of many has come. Copied before the log it is behind at most, and what it does again
///    changes nothing; copied after it, it would take for done what the log does not have.
/// 4. `PARKED`: an item leaves it once its effect is on the log. Copied before the log, it may be in both, never in neither.
/// 5. `EVT-*`: the truth.
/// 6. `KV_PROVIDER_REFS`: written before the log says SENT. Copied after the log, it has every reference the log rests on.
/// 7. `INBOUND`: everything on the log that came in is in it, so what was half done at the cut is done again from the top.
pub fn contents(layout: &Layout) -> Vec<String> {
    let bucket = |name: &str| format!("KV_{name}");
    let mut all = vec![
        bucket(streams::LANES),
        bucket(streams::CHANNEL_STATE),
        bucket(streams::REDRIVES),
        streams::PARKED.to_owned(),
    ];
    all.extend(layout.partitions.all().map(streams::name));
    all.extend([bucket(streams::PROVIDER_REFS), streams::INBOUND.to_owned()]);
    all
}

/// What a stream says about restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It was never made from a backup.
    None,
    /// It was made from this backup, and not all of that is there.
    Restoring(String),
    /// It was made from this backup, all of which was there.
    Restored(String),
}

/// Our streams that are on the broker: name, and what they say about restores.
///
/// # Errors
/// The broker does not answer.
pub async fn present(
    js: &jetstream::Context,
    layout: &Layout,
) -> Result<BTreeMap<String, Mark>, async_nats::Error> {
    let known: Vec<String> = streams::definitions(layout)
        .into_iter()
        .map(|config| config.name)
        .collect();
    let mut all = js.streams();
    let mut found = BTreeMap::new();
    while let Some(info) = all.try_next().await? {
        let name = info.config.name;
        // Also a log with more partitions than ours.
        if known.contains(&name) || name.starts_with("EVT-") {
            found.insert(name, mark(&info.config.metadata));
        }
    }
    Ok(found)
}

fn mark(metadata: &HashMap<String, String>) -> Mark {
    match (metadata.get(RESTORING), metadata.get(RESTORED)) {
        (Some(backup), _) => Mark::Restoring(backup.clone()),
        (None, Some(backup)) => Mark::Restored(backup.clone()),
        (None, None) => Mark::None,
    }
}

/// Changes the mark of a stream: the restore it belongs to is complete.
///
/// # Errors
/// The broker refuses or does not answer.
pub async fn complete(js: &jetstream::Context, stream: &str) -> Result<(), async_nats::Error> {
    let mut config = js.get_stream(stream).await?.cached_info().config.clone();
    if let Some(backup) = config.metadata.remove(RESTORING) {
        config.metadata.insert(RESTORED.to_owned(), backup);
        js.update_stream(config).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chat4all_domain::PartitionCount;

    use super::*;

    #[test]
    fn everything_but_leases_is_in_a_backup() {
        let layout = Layout {
            partitions: PartitionCount::new(8).expect("8 is between 1 and 64"),
            replicas: 1,
            max_bytes: 1 << 30,
        };
        let made = streams::definitions(&layout).into_iter();
        let mut left_out: BTreeSet<_> = made.map(|config| config.name).collect();
        for copied in contents(&layout) {
            assert!(
                left_out.remove(&copied),
                "{copied} is copied twice, or never made"
            );
        }
        assert_eq!(left_out.into_iter().collect::<Vec<_>>(), ["KV_LEASES"]);
    }
}
