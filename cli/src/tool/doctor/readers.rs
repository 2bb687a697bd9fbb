//! Whoever follows the log: at work, and moving.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::consumer;
use chat4all_domain::Partition;
use chat4all_nats::{Log, streams};
use chat4all_postgres::checkpoint;
use chat4all_service::{Config, clock};
use futures::TryStreamExt as _;
use tokio::time::{Instant, timeout};

use super::Checkpoints;
use super::finding::{Area, Finding};
use crate::roles::database;

/// Between two looks at one that is behind.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long one question to the log may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Behind by more than this is worth a word, although it moves.
const MAY_BE_BEHIND: time::Duration = time::Duration::seconds(30);

/// Where a reader is, and what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    at: u64,
    waiting: u64,
}

/// Looks at owners and readers; those that are behind are looked at twice. `rows` are the read models' checkpoints.
pub async fn look(config: &Config, log: &Log, rows: Option<&Checkpoints>) -> Vec<Finding> {
    let held = timeout(PATIENCE, held(log)).await;
    let mut found = match held.unwrap_or_else(|late| Err(late.into())) {
        Ok(held) => owners(config, log, &held),
        // Who cannot be asked is not nobody.
        Err(error) => return vec![unanswered(&error)],
    };
    let first = match places(log, rows).await {
        Ok(places) => places,
        Err(error) => {
            found.push(unanswered(&error));
            return found;
        }
    };
    let behind: BTreeMap<_, _> = first
        .into_iter()
        .filter(|(_, place)| place.waiting > 0)
        .collect();
    if behind.is_empty() {
        return found;
    }
    tokio::time::sleep(AGAIN_AFTER).await;
    let rows = again(config, rows).await;
    match places(log, rows.as_ref()).await {
        Ok(second) => {
            for (name, before) in behind {
                let after = second.get(&name).copied();
                found.extend(after.and_then(|after| stalled(&name, before, after)));
            }
            found.extend(rows.iter().flat_map(|rows| late(rows, &second)));
        }
        Err(error) => found.push(unanswered(&error)),
    }
    found
}

fn unanswered(error: &anyhow::Error) -> Finding {
    Finding::wrong(
        Area::Readers,
        format!("the readers cannot be looked at: {error:#}"),
        "a broker that answers",
        "look at the broker first, then run this again",
    )
}

fn stalled(name: &str, before: Place, after: Place) -> Option<Finding> {
    (after.waiting > 0 && after.at == before.at).then(|| {
        Finding::wrong(
            Area::Readers,
            format!(
                "{name} stands at {} with {} before it, and has not moved for {} s",
                after.at,
                after.waiting,
                AGAIN_AFTER.as_secs()
            ),
            "every reader moves while there is something before it",
            "look at the log of the role (a halted partition, a held account, Postgres away?); docs/operations.md, \"How far are the readers?\"",
        )
    })
}

/// Read models that move and are far behind all the same.
fn late(rows: &Checkpoints, places: &BTreeMap<String, Place>) -> Option<Finding> {
    let behind = rows.iter().filter_map(|(partition, row)| {
        let place = places.get(&read_models(*partition))?;
        let age = clock::now() - row.recorded_at?.to_datetime();
        (place.waiting > 0 && age > MAY_BE_BEHIND).then_some((age, place.waiting))
    });
    let (age, _) = behind.clone().max()?;
    let waiting: u64 = behind.map(|(_, waiting)| waiting).sum();
    Some(Finding::notice(
        Area::Readers,
        format!(
            "the read models are {} s behind, {waiting} events",
            age.whole_seconds()
        ),
        "seconds",
        "more projectors (they share the partitions), or a faster Postgres; `chat4all lag` shows whether it shrinks",
    ))
}

async fn again(config: &Config, rows: Option<&Checkpoints>) -> Option<Checkpoints> {
    rows?;
    let mut connection = database(config, "doctor").ok()?.connect().await.ok()?;
    checkpoint::read(&mut connection).await.ok()
}

fn read_models(partition: Partition) -> String {
    format!("the read models' partition {partition}")
}

/// Every reader by name: the read models by their checkpoints, others by what they have acknowledged.
async fn places(log: &Log, rows: Option<&Checkpoints>) -> anyhow::Result<BTreeMap<String, Place>> {
    let mut places = BTreeMap::new();
    for partition in log.partitions().all() {
        let end = log
            .last_sequence(partition, Instant::now() + PATIENCE)
            .await?;
        if let Some(rows) = rows {
            let at = rows.get(&partition).map_or(0, |row| row.sequence);
            let waiting = end.saturating_sub(at);
            places.insert(read_models(partition), Place { at, waiting });
        }
        let stream = log.stream(partition);
        durables(stream.consumers().try_collect().await?, &mut places);
    }
    let inbound = log.jetstream().get_stream(streams::INBOUND).await?;
    durables(inbound.consumers().try_collect().await?, &mut places);
    Ok(places)
}

/// Those that are kept while nobody follows. Projectors' durables say less than their checkpoints.
fn durables(all: Vec<consumer::Info>, places: &mut BTreeMap<String, Place>) {
    for info in all {
        let lasting =
            info.config.durable_name.is_some() && info.config.inactive_threshold.is_zero();
        if lasting && !info.name.starts_with("projector-") {
            let under_way = u64::try_from(info.num_ack_pending).unwrap_or(0);
            let place = Place {
                at: info.ack_floor.stream_sequence,
                waiting: info.num_pending + under_way,
            };
            places.insert(info.name, place);
        }
    }
}

/// Partitions that nobody works on, by the leases there are.
fn owners(config: &Config, log: &Log, held: &BTreeSet<String>) -> Vec<Finding> {
    let kinds: BTreeSet<_> = config.channels.values().map(kind).collect();
    let bridges = kinds
        .into_iter()
        .map(|kind| (format!("bridge-{kind}"), "bridges"));
    let roles = bridges.chain([("projector".to_owned(), "projector")]);
    roles
        .filter_map(|(name, role)| {
            let free = |partition: &Partition| !held.contains(&format!("{name}.{partition}"));
            let free: Vec<_> = log.partitions().all().filter(free).map(|one| one.to_string()).collect();
            (!free.is_empty()).then(|| {
                Finding::wrong(
                    Area::Readers,
                    format!("nobody works on partitions {} of `{name}`", free.join(" ")),
                    "each partition has one worker; after a kill the others take it within 15 s",
                    format!("start `chat4all {role}` (or `all`); if it runs, look at its log and at /readyz"),
                )
            })
        })
        .collect()
}

fn kind(channel: &chat4all_service::config::Channel) -> &'static str {
    match channel {
        chat4all_service::config::Channel::WhatsApp(_) => "whatsapp",
    }
}

/// The leases there are, as `role.partition`.
async fn held(log: &Log) -> anyhow::Result<BTreeSet<String>> {
    let bucket = log.jetstream().get_key_value(streams::LEASES).await?;
    Ok(bucket.keys().await?.try_collect().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_stalled_when_it_is_behind_and_does_not_move() {
        let place = |at, waiting| Place { at, waiting };
        assert!(stalled("x", place(5, 3), place(5, 3)).is_some());
        assert!(
            stalled("x", place(5, 3), place(5, 9)).is_some(),
            "more before it"
        );
        assert!(stalled("x", place(5, 3), place(6, 9)).is_none(), "it moves");
        assert!(
            stalled("x", place(5, 3), place(5, 0)).is_none(),
            "nothing before it any more"
        );
    }
}
