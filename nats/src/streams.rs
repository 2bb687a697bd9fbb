//! What is on the broker, as data: streams and buckets, how they are made, and how a difference is told.
//!
//! `provision` makes what is missing and changes nothing that is there. What rests on sequences for ever (the number of
//! partitions, the hash) refuses to start when it differs; any other difference is reported as [`Drift`], because an
//! operator may have had a reason (`nats stream edit`).

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, context::GetStreamErrorKind};
use chat4all_domain::{Partition, PartitionCount};

use crate::{backup, subject};

/// The largest message the log takes: 256 KiB.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
/// The broker's window for `Nats-Msg-Id`; it only saves work, nothing rests on it.
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(120);
/// Where leases live.
pub const LEASES: &str = "LEASES";
/// A lease that is not renewed for this long is gone.
pub const LEASE_MAX_AGE: Duration = Duration::from_secs(10);

/// Webhook calls, as they came: `chat.in.<kind>`.
pub const INBOUND: &str = "INBOUND";
/// One webhook call at most: 4 MiB of body and room to spare.
pub const MAX_INBOUND_BYTES: usize = 5 * 1024 * 1024;
/// What came in and could not be understood, or placed: `chat.parked.<kind>.…`.
pub const PARKED: &str = "PARKED";
/// How long webhook calls and parked items are kept.
pub const INBOUND_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Where providers' ids lead back to deliveries.
pub const PROVIDER_REFS: &str = "PROVIDER_REFS";
/// How long a provider may take to report on a message.
pub const PROVIDER_REFS_MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Where bridges remember from where on they must fold.
pub const LANES: &str = "LANES";
/// Where workers tell each other how an account is doing.
pub const CHANNEL_STATE: &str = "CHANNEL_STATE";

const PARTITIONS_KEY: &str = "chat4all.partitions";
const HASH_KEY: &str = "chat4all.hash";

/// How the log of this installation is laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// How many partitions, and so streams: chosen once.
    pub partitions: PartitionCount,
    /// Copies of everything: 1 on one node, 3 in a cluster.
    pub replicas: usize,
    /// What all event streams together may hold, in bytes. Each gets its share.
    pub max_bytes: u64,
}

/// The name of a partition's stream, `EVT-07`.
pub fn name(partition: Partition) -> String {
    format!("EVT-{partition}")
}

/// Everything there is to be, in the order it is made.
pub fn definitions(layout: &Layout) -> Vec<Config> {
    let mut all: Vec<Config> = layout.partitions.all().map(|p| events(layout, p)).collect();
    all.push(leases(layout.replicas));
    all.extend([inbound(layout), parked(layout)]);
    all.extend([provider_refs(layout), lanes(layout), channel_state(layout)]);
    all
}

fn events(layout: &Layout, partition: Partition) -> Config {
    let share = layout.max_bytes / u64::from(layout.partitions.get());
    Config {
        name: name(partition),
        description: Some(format!(
            "Chat4All events, partition {partition} of {}: the truth; never delete or purge",
            layout.partitions.get()
        )),
        subjects: vec![subject::partition(partition)],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: layout.replicas,
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(share).unwrap_or(i64::MAX),
        max_message_size: MAX_EVENT_BYTES as i32,
        duplicate_window: DEDUPE_WINDOW,
        allow_direct: true,
        deny_delete: true,
        deny_purge: true,
        compression: Some(Compression::S2),
        metadata: HashMap::from([
            (
                PARTITIONS_KEY.to_owned(),
                layout.partitions.get().to_string(),
            ),
            (HASH_KEY.to_owned(), PartitionCount::HASH.to_owned()),
            ("chat4all.partition".to_owned(), partition.to_string()),
        ]),
        ..Config::default()
    }
}

/// A key-value bucket, spelled out as the stream it is: the client's helper cannot set everything.
fn bucket(replicas: usize, name: &str, description: &str) -> Config {
    Config {
        name: format!("KV_{name}"),
        description: Some(description.to_owned()),
        subjects: vec![format!("$KV.{name}.>")],
        retention: RetentionPolicy::Limits,
        num_replicas: replicas,
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        duplicate_window: DEDUPE_WINDOW,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// The bucket of leases, as the stream it is.
pub(crate) fn leases(replicas: usize) -> Config {
    let what = "Chat4All leases: who works on which partition; lost = seconds of pause";
    Config {
        storage: StorageType::Memory,
        max_age: LEASE_MAX_AGE,
        duplicate_window: LEASE_MAX_AGE,
        ..bucket(replicas, LEASES, what)
    }
}

/// Half as much as the log: a flood of webhooks must not take the disk that outcomes need.
fn inbound(layout: &Layout) -> Config {
    Config {
        name: INBOUND.to_owned(),
        description: Some(
            "Chat4All webhook calls, as they came; lost = what came in is lost".into(),
        ),
        subjects: vec!["chat.in.*".to_owned()],
        max_bytes: i64::try_from(layout.max_bytes / 2).unwrap_or(i64::MAX),
        max_message_size: MAX_INBOUND_BYTES as i32,
        deny_delete: true,
        deny_purge: true,
        ..side_stream(layout)
    }
}

/// Items are deleted once they could be placed, so this one can be deleted from. What does not fit pushes out the oldest.
fn parked(layout: &Layout) -> Config {
    Config {
        name: PARKED.to_owned(),
        description: Some(
            "Chat4All inbound items to look at: bad ones, and receipts of unknown messages".into(),
        ),
        subjects: vec!["chat.parked.>".to_owned()],
        max_bytes: i64::try_from(layout.max_bytes / 8).unwrap_or(i64::MAX),
        max_message_size: MAX_INBOUND_BYTES as i32,
        discard: DiscardPolicy::Old,
        ..side_stream(layout)
    }
}

/// What the streams beside the log have in common.
fn side_stream(layout: &Layout) -> Config {
    Config {
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: layout.replicas,
        discard: DiscardPolicy::New,
        max_age: INBOUND_MAX_AGE,
        duplicate_window: DEDUPE_WINDOW,
        allow_direct: true,
        compression: Some(Compression::S2),
        ..Config::default()
    }
}

fn provider_refs(layout: &Layout) -> Config {
    let what = "Chat4All provider ids and their deliveries; lost = rebuilt from the log";
    Config {
        max_age: PROVIDER_REFS_MAX_AGE,
        persist_mode: rebuildable(layout),
        ..bucket(layout.replicas, PROVIDER_REFS, what)
    }
}

fn lanes(layout: &Layout) -> Config {
    let what = "Chat4All low-water marks of bridges; lost = a slower restart";
    Config {
        persist_mode: rebuildable(layout),
        ..bucket(layout.replicas, LANES, what)
    }
}

fn channel_state(layout: &Layout) -> Config {
    let what = "Chat4All pauses of channel accounts; lost = learnt again";
    bucket(layout.replicas, CHANNEL_STATE, what)
}

/// On one node, what the log can rebuild need not wait for the disk. A cluster does not offer that.
fn rebuildable(layout: &Layout) -> Option<PersistenceMode> {
    (layout.replicas == 1).then_some(PersistenceMode::Async)
}

/// One setting that is not what this installation would have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The stream.
    pub stream: String,
    /// The setting.
    pub setting: &'static str,
    /// What it would have been.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

/// What provisioning found and did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Streams that were made.
    pub created: Vec<String>,
    /// Settings that differ and were left as they are.
    pub drift: Vec<Drift>,
}

/// Why provisioning stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Positions and revisions would point elsewhere.
    #[error(
        "stream {stream} was made for {setting} = {found}, this configuration says {wanted}; \
         set it back: sequences depend on it and it cannot be changed once events exist"
    )]
    Incompatible {
        /// The stream.
        stream: String,
        /// What differs for ever.
        setting: &'static str,
        /// What the configuration says.
        wanted: String,
        /// What the stream says.
        found: String,
    },
    /// A restore has begun and has not ended.
    #[error(
        "stream {stream} is from a restore that is not complete; end it with `chat4all restore` and the same backup \
         ({backup})"
    )]
    Restoring {
        /// The stream.
        stream: String,
        /// The backup's id.
        backup: String,
    },
    /// The broker did not do it.
    #[error("failed to set up stream {stream}")]
    Broker {
        /// The stream.
        stream: String,
        /// Why not.
        #[source]
        source: async_nats::Error,
    },
}

/// Makes what is missing, compares what is there.
///
/// # Errors
/// [`Error::Incompatible`] when the log was made for other partitions; [`Error::Restoring`] when only a part of it is there;
/// [`Error::Broker`] when the broker refuses or is away.
pub async fn provision(js: &jetstream::Context, layout: &Layout) -> Result<Report, Error> {
    let mut report = Report::default();
    refuse_half_a_log(js, layout).await?;
    for wanted in definitions(layout) {
        let broken = |source: async_nats::Error| Error::Broker {
            stream: wanted.name.clone(),
            source,
        };
        match js.get_stream(&wanted.name).await {
            Ok(stream) => {
                let found = &stream.cached_info().config;
                compatible(&wanted, found)?;
                report.drift.extend(drift(&wanted, found));
            }
            Err(error) if is_missing(&error) => {
                js.create_stream(wanted.clone())
                    .await
                    .map_err(|error| broken(error.into()))?;
                report.created.push(wanted.name);
            }
            Err(error) => return Err(broken(error.into())),
        }
    }
    refuse_a_stream_too_many(js, layout).await?;
    Ok(report)
}

/// Half of a log, completed with empty streams, would be taken for a whole.
async fn refuse_half_a_log(js: &jetstream::Context, layout: &Layout) -> Result<(), Error> {
    for stream in backup::contents(layout) {
        match js.get_stream(&stream).await {
            Ok(found) => not_restoring(&found.cached_info().config, None)?,
            Err(error) if is_missing(&error) => {}
            Err(error) => {
                let source = error.into();
                return Err(Error::Broker { stream, source });
            }
        }
    }
    Ok(())
}

/// Refuses a stream of a restore that is not complete, unless it is that of `backup`.
pub(crate) fn not_restoring(found: &Config, backup: Option<&str>) -> Result<(), Error> {
    match found.metadata.get(backup::RESTORING) {
        Some(of) if backup != Some(of.as_str()) => Err(Error::Restoring {
            stream: found.name.clone(),
            backup: of.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Fewer partitions than there are streams would hash ids to other places than before.
async fn refuse_a_stream_too_many(js: &jetstream::Context, layout: &Layout) -> Result<(), Error> {
    let Some(next) = Partition::new(layout.partitions.get()) else {
        return Ok(());
    };
    let stream = name(next);
    match js.get_stream(&stream).await {
        Ok(found) => Err(Error::Incompatible {
            stream,
            setting: PARTITIONS_KEY,
            wanted: layout.partitions.get().to_string(),
            found: metadata(&found.cached_info().config, PARTITIONS_KEY),
        }),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(Error::Broker {
            stream,
            source: error.into(),
        }),
    }
}

fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(e)
        if e.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

fn metadata(config: &Config, key: &str) -> String {
    config
        .metadata
        .get(key)
        .cloned()
        .unwrap_or_else(|| "nothing".to_owned())
}

/// Refuses a stream whose sequences mean something else.
pub(crate) fn compatible(wanted: &Config, found: &Config) -> Result<(), Error> {
    for setting in [PARTITIONS_KEY, HASH_KEY] {
        let (want, have) = (wanted.metadata.get(setting), metadata(found, setting));
        if let Some(want) = want
            && *want != have
        {
            let stream = wanted.name.clone();
            return Err(Error::Incompatible {
                stream,
                setting,
                wanted: want.clone(),
                found: have,
            });
        }
    }
    Ok(())
}

/// Every other difference that matters, setting by setting.
fn drift(wanted: &Config, found: &Config) -> Vec<Drift> {
    let mut all = Vec::new();
    let mut compare = |setting, want: String, have: String| {
        if want != have {
            let stream = wanted.name.clone();
            all.push(Drift {
                stream,
                setting,
                wanted: want,
                found: have,
            });
        }
    };
    let shown = |value: &dyn std::fmt::Debug| format!("{value:?}");
    compare("subjects", shown(&wanted.subjects), shown(&found.subjects));
    compare(
        "retention",
        shown(&wanted.retention),
        shown(&found.retention),
    );
    compare("storage", shown(&wanted.storage), shown(&found.storage));
    compare(
        "replicas",
        shown(&wanted.num_replicas),
        shown(&found.num_replicas),
    );
    compare("discard", shown(&wanted.discard), shown(&found.discard));
    compare("max_bytes", limit(wanted.max_bytes), limit(found.max_bytes));
    compare(
        "max_messages",
        limit(wanted.max_messages),
        limit(found.max_messages),
    );
    compare(
        "max_msgs_per_subject",
        limit(wanted.max_messages_per_subject),
        limit(found.max_messages_per_subject),
    );
    compare("max_age", shown(&wanted.max_age), shown(&found.max_age));
    compare(
        "max_msg_size",
        limit(wanted.max_message_size.into()),
        limit(found.max_message_size.into()),
    );
    compare(
        "deny_delete",
        shown(&wanted.deny_delete),
        shown(&found.deny_delete),
    );
    compare(
        "deny_purge",
        shown(&wanted.deny_purge),
        shown(&found.deny_purge),
    );
    compare(
        "allow_direct",
        shown(&wanted.allow_direct),
        shown(&found.allow_direct),
    );
    compare("compression", compression(wanted), compression(found));
    compare(
        "persist_mode",
        shown(&wanted.persist_mode.unwrap_or_default()),
        shown(&found.persist_mode.unwrap_or_default()),
    );
    all
}

/// The server writes "no limit" as -1 where we write 0.
fn limit(value: i64) -> String {
    if value <= 0 {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn compression(config: &Config) -> String {
    match config.compression {
        Some(Compression::S2) => "s2".to_owned(),
        Some(Compression::None) | None => "none".to_owned(),
    }
}
