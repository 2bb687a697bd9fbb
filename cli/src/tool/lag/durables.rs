//! The readers whose place the broker knows: a durable each, for a bridge and partition and for what comes in.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::Stream;
use chat4all_domain::{ChannelKind, Partition};
use chat4all_nats::{Log, streams};
use chat4all_service::Config;
use chat4all_service::config::Channel;
use futures::TryStreamExt as _;

use super::Row;

/// The bridges of a partition that ends at `end`. Projectors have durables too; they are measured by their checkpoints.
pub(super) async fn bridges(
    log: &Log,
    config: &Config,
    partition: Partition,
    end: u64,
) -> anyhow::Result<Vec<Row>> {
    let names = kinds(config).map(|kind| format!("bridge-{kind}-{partition}"));
    of_stream(log.stream(partition), Some(partition), names.collect(), end).await
}

/// The readers of what comes in.
pub(super) async fn inbound(log: &Log, config: &Config) -> anyhow::Result<Vec<Row>> {
    let stream = log.jetstream().get_stream(streams::INBOUND).await?;
    let end = stream.cached_info().state.last_sequence;
    let names = kinds(config).map(|kind| format!("inbound-{kind}"));
    of_stream(&stream, None, names.collect(), end).await
}

fn kinds(config: &Config) -> impl Iterator<Item = ChannelKind> {
    config.channels.values().map(|channel| match channel {
        Channel::WhatsApp(_) => ChannelKind::WhatsApp,
    })
}

/// The durables of a stream, and those of `names` that there should be, by configuration.
async fn of_stream<I>(
    stream: &Stream<I>,
    partition: Option<Partition>,
    mut names: BTreeSet<String>,
    end: u64,
) -> anyhow::Result<Vec<Row>> {
    let mut found = BTreeMap::new();
    let mut consumers = stream.consumers();
    while let Some(info) = consumers.try_next().await? {
        let lasting =
            info.config.durable_name.is_some() && info.config.inactive_threshold.is_zero();
        if lasting && !info.name.starts_with("projector-") {
            found.insert(info.name.clone(), info);
        }
    }
    names.extend(found.keys().cloned());
    let rows = names.into_iter().map(|reader| Row {
        at: found.get(&reader).map(|info| at(info, end)),
        behind: found.get(&reader).map(behind),
        reader,
        partition: partition.map(|partition| partition.to_string()),
        end,
        seconds: None,
    });
    Ok(rows.collect())
}

/// What it was not given yet, and what it was given and has not answered. A bridge is given only what concerns it.
fn behind(info: &consumer::Info) -> u64 {
    info.num_pending + u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX)
}

/// Who has nothing before it has come as far as there is, whatever the last one was that concerned it.
fn at(info: &consumer::Info, end: u64) -> u64 {
    match behind(info) {
        0 => end,
        _ => info.ack_floor.stream_sequence,
    }
}
