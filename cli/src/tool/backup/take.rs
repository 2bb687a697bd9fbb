//! Making a backup: each stream's copy into a file, in the order that keeps them true of each other.
//!
//! Files are written by the thread that waits for chunks: the connection lives on the runtime's other threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use chat4all_domain::{IdSecret, PartitionCount, Timestamp};
use chat4all_nats::backup::{self, Snapshot, SnapshotError};
use chat4all_nats::streams::{self, Layout};
use chat4all_nats::{Client, Log};
use chat4all_service::clock;
use tokio::time::Instant;

use super::Tell;
use super::directory::Unfinished;
use super::manifest::{Kept, MANIFEST, Manifest, SUMS};

/// How long the log may take to say where it ends.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a copy that breaks off is begun again.
const TRIES: u32 = 5;
/// How often the progress of one stream is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// What is backed up.
pub struct From {
    /// Connected to the broker.
    pub client: Client,
    /// The log's layout.
    pub layout: Layout,
    /// Only its fingerprint is kept.
    pub id_secret: IdSecret,
}

/// Makes the backup `dir`.
///
/// # Errors
/// See [`super::run`].
pub async fn take(from: &From, dir: &Path, tell: Tell) -> anyhow::Result<Manifest> {
    let unfinished = Unfinished::begin(dir)?;
    // Also refuses a log of another layout, and one that is only half restored.
    let log = Log::open(from.client.clone(), &from.layout).await?;
    let begun_at = now();
    let mut since = BTreeMap::new();
    for partition in log.partitions().all() {
        let deadline = Instant::now() + READ_TIMEOUT;
        let last = log.last_sequence(partition, deadline).await?;
        since.insert(streams::name(partition), last);
    }
    let spread = (log.partitions().get(), PartitionCount::HASH);
    let broker = from.client.server_info().version;
    let secret = from.id_secret.fingerprint_of_itself();
    let mut manifest = Manifest::begin(broker, begun_at, spread, secret, since);
    for stream in backup::contents(&from.layout) {
        let kept = copy_insisting(from, &unfinished, &stream, tell).await?;
        tell.say(format_args!(
            "copied     {:<20} {:>10} messages, {} to {}, {} bytes",
            kept.name, kept.state.messages, kept.state.first_seq, kept.state.last_seq, kept.bytes
        ))?;
        manifest.streams.push(kept);
    }
    manifest.ended_at = now();
    finish(unfinished, &manifest)?;
    Ok(manifest)
}

/// A copy that breaks off, with a connection or a leader, is begun again from nothing.
async fn copy_insisting(
    from: &From,
    into: &Unfinished,
    stream: &str,
    tell: Tell,
) -> anyhow::Result<Kept> {
    let mut tries = 1;
    loop {
        match copy(from, into, stream, tell).await {
            Err(error) if tries < TRIES && broke_off(&error) => {
                tell.say(format_args!("again      {error:#}"))?;
                tries += 1;
            }
            done => return done,
        }
    }
}

fn broke_off(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<SnapshotError>(),
        Some(SnapshotError::BrokeOff { .. })
    )
}

async fn copy(from: &From, into: &Unfinished, stream: &str, tell: Tell) -> anyhow::Result<Kept> {
    let name = format!("{stream}.tar.s2");
    let mut file = into.file(&name)?;
    let mut snapshot = Snapshot::begin(&from.client, stream).await?;
    let mut told = Instant::now();
    while let Some(chunk) = snapshot.next().await? {
        file.append(&chunk)?;
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            tell.say(format_args!(
                "copying    {stream:<20} {} bytes of at most about {}",
                file.bytes(),
                snapshot.state.bytes
            ))?;
        }
    }
    let (bytes, sha256) = file.finish()?;
    Ok(Kept {
        name: stream.to_owned(),
        file: name,
        bytes,
        sha256,
        state: snapshot.state,
        config: snapshot.config,
    })
}

/// Manifest, checksums, name: in this order.
fn finish(unfinished: Unfinished, manifest: &Manifest) -> anyhow::Result<()> {
    let mut file = unfinished.file(MANIFEST)?;
    file.append(&serde_json::to_vec_pretty(manifest).context("the manifest")?)?;
    let (_, sha256) = file.finish()?;
    let mut sums = format!("{sha256}  {MANIFEST}\n");
    for kept in &manifest.streams {
        sums.push_str(&format!("{}  {}\n", kept.sha256, kept.file));
    }
    let mut file = unfinished.file(SUMS)?;
    file.append(sums.as_bytes())?;
    file.finish()?;
    unfinished.name()
}

/// RFC 3339, to the millisecond.
fn now() -> String {
    Timestamp::from(clock::now()).to_string()
}
