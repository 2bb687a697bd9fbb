//! What is on the broker, as data: streams and buckets, how they are made, and how a difference is told.
//!
//! `provision` makes what is missing and changes nothing that is there. What rests on sequences for ever (the number of
//! partitions, the hash) refuses to start when it differs; any other difference is reported as [`Drift`], because an
//! operator may have had a reason (`nats stream edit`).
//!
//! Nothing is compressed: nats-server 2.15.1 makes what it has compressed in a cluster unreadable (ADR 0021).

mod examine;
mod provision;

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType,
};
use chat4all_domain::{Partition, PartitionCount};

use crate::subject;

pub use examine::{Examined, Standing, examine};
pub use provision::{Drift, Error, Report, provision};
pub(crate) use provision::{compatible, not_restoring};

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
/// Where redrives of many dead letters stand, each with its list and how far it has come.
pub const REDRIVES: &str = "REDRIVES";
/// How long a redrive can be looked up.
pub const REDRIVES_MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);

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
    all.push(redrives(layout));
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
    let what = "Chat4All states of channel accounts; lost = pauses by operators are, the rest is learnt again";
    Config {
        // Pauses of one customer go away by themselves.
        allow_message_ttl: true,
        ..bucket(layout.replicas, CHANNEL_STATE, what)
    }
}

fn redrives(layout: &Layout) -> Config {
    let what = "Chat4All redrives of many dead letters; lost = they stop, what they had left is still a dead letter";
    Config {
        max_age: REDRIVES_MAX_AGE,
        ..bucket(layout.replicas, REDRIVES, what)
    }
}

/// On one node, what the log can rebuild need not wait for the disk. A cluster does not offer that.
fn rebuildable(layout: &Layout) -> Option<PersistenceMode> {
    (layout.replicas == 1).then_some(PersistenceMode::Async)
}
