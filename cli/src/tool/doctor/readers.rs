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
        Ok(held) => owners(work(config, log), &held),
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

/// What workers share by leases.
struct Work {
    /// The role of its leases.
    name: String,
    /// The command that does it.
    command: &'static str,
    /// Its partitions: all of them, or the first alone where the work has only one part.
    partitions: Vec<Partition>,
}

/// All the work there is with these accounts.
fn work(config: &Config, log: &Log) -> Vec<Work> {
    let all: Vec<_> = log.partitions().all().collect();
    let first = all[..1].to_vec();
    let of = |name: String, command, partitions: &[Partition]| Work {
        name,
        command,
        partitions: partitions.to_vec(),
    };
    let mut work = vec![of("projector".to_owned(), "projector", &all)];
    let kinds: BTreeSet<_> = config.channels.values().map(kind).collect();
    // Without an account nobody has to run bridges.
    if !kinds.is_empty() {
        work.push(of("redrive".to_owned(), "bridges", &first));
    }
    for kind in kinds {
        work.push(of(format!("bridge-{kind}"), "bridges", &all));
        work.push(of(format!("inbound-{kind}"), "bridges", &first));
    }
    work
}

/// Partitions that nobody works on, by the leases there are.
fn owners(work: Vec<Work>, held: &BTreeSet<String>) -> Vec<Finding> {
    work.into_iter()
        .filter_map(|work| {
            let Work {
                name,
                command,
                partitions,
            } = work;
            let free = |partition: &Partition| !held.contains(&format!("{name}.{partition}"));
            let free: Vec<_> = partitions
                .into_iter()
                .filter(free)
                .map(|one| one.to_string())
                .collect();
            (!free.is_empty()).then(|| {
                Finding::wrong(
                    Area::Readers,
                    format!("nobody works on partitions {} of `{name}`", free.join(" ")),
                    "each partition has one worker; after a kill the others take it within 15 s",
                    format!("start `chat4all {command}` (or `all`); if it runs, look at its log and at /readyz"),
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
    use chat4all_domain::Timestamp;
    use chat4all_postgres::checkpoint::Checkpoint;

    use super::*;
    use crate::tool::doctor::Weight;

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

    #[test]
    fn read_models_that_are_far_behind_are_noticed_while_something_is_before_them() {
        let checkpoint = |seconds_ago: i64| Checkpoint {
            sequence: 5,
            recorded_at: Some(Timestamp::from(
                clock::now() - time::Duration::seconds(seconds_ago),
            )),
        };
        let partitions: Vec<_> = (0..3).filter_map(Partition::new).collect();
        let says = |all: &[(Checkpoint, u64)]| {
            let with = partitions.iter().zip(all);
            let rows: Checkpoints = with.clone().map(|(one, (row, _))| (*one, *row)).collect();
            let place = |waiting| Place { at: 5, waiting };
            let places = with.map(|(one, (_, waiting))| (read_models(*one), place(*waiting)));
            let places: BTreeMap<_, _> = places.collect();
            late(&rows, &places)
        };
        assert_eq!(says(&[(checkpoint(20), 3)]), None, "a moment");
        assert_eq!(says(&[(checkpoint(500), 0)]), None, "nothing is before it");
        let never = Checkpoint {
            sequence: 0,
            recorded_at: None,
        };
        assert_eq!(says(&[(never, 3)]), None, "nobody knows how far");
        // The oldest of them, and all that waits for those that are late.
        let two = [
            (checkpoint(100), 3),
            (checkpoint(500), 4),
            (checkpoint(1), 9),
        ];
        let found = says(&two).expect("two are late");
        assert_eq!(found.weight, Weight::Notice);
        let words = found.what.strip_prefix("the read models are ").unwrap();
        let (seconds, waiting) = words.split_once(" s behind, ").unwrap();
        let seconds: u64 = seconds.parse().unwrap();
        assert!((500..600).contains(&seconds), "{seconds}");
        assert_eq!(waiting, "7 events");
    }
}
