//! The read models: whether Postgres answers, has the form this release knows, and is of this log.

use std::time::Duration;

use chat4all_domain::{Partition, Timestamp};
use chat4all_nats::{Change, Log, Stored};
use chat4all_postgres::checkpoint;
use chat4all_postgres::migrated::{self, Migrated};
use chat4all_service::{Chain, Config, clock};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::Checkpoints;
use super::broker::skew;
use super::finding::{Area, Finding};
use crate::tool::{FROM_UP, database};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the read models stand, if they could be asked, and what is wrong with them.
pub async fn look(config: &Config, log: Option<&Log>) -> (Option<Checkpoints>, Vec<Finding>) {
    let mut found = Vec::new();
    let connected = match database(config, "doctor") {
        Ok(database) => database.connect().await,
        Err(error) => Err(sqlx::Error::Configuration(error.into())),
    };
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(error) => return (None, vec![away(&error)]),
    };
    let checkpoints = match ask(&mut connection, &mut found).await {
        Ok(checkpoints) => checkpoints,
        Err(error) => {
            found.push(away(&error));
            None
        }
    };
    if let (Some(log), Some(checkpoints)) = (log, &checkpoints) {
        for (partition, at) in checkpoints {
            found.extend(of_this_log(log, *partition, *at).await);
        }
    }
    (checkpoints, found)
}

fn away(error: &sqlx::Error) -> Finding {
    Finding::wrong(
        Area::ReadModels,
        format!("Postgres does not answer: {}", Chain(error)),
        "a Postgres that lets this user in; until then reads are 503, and commands go on",
        format!(
            "start it (`make run` and `chat4all up` start one of their own), or set CHAT4ALL_POSTGRES__URL; {FROM_UP}"
        ),
    )
}

async fn ask(
    connection: &mut PgConnection,
    found: &mut Vec<Finding>,
) -> Result<Option<Checkpoints>, sqlx::Error> {
    let began = (Instant::now(), clock::now());
    let now: OffsetDateTime = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut *connection)
        .await?;
    found.extend(skew(Area::ReadModels, "Postgres", now, began));
    let migrated = migrated::look(connection).await?;
    found.extend(schema(&migrated));
    if !migrated.missing.is_empty() || !migrated.broken.is_empty() {
        return Ok(None);
    }
    let poison: i64 = sqlx::query_scalar("select count(*) from projector_dead_letter")
        .fetch_one(&mut *connection)
        .await?;
    if poison > 0 {
        let parked = if poison == 1 {
            "an event could not be folded and is parked: reads lack what it says".to_owned()
        } else {
            format!("{poison} events could not be folded and are parked: reads lack what they say")
        };
        found.push(Finding::notice(
            Area::ReadModels,
            parked,
            "none",
            "docs/operations.md, \"An event that cannot be folded\"; afterwards `chat4all rebuild --accept-differences`",
        ));
    }
    checkpoint::read(connection).await.map(Some)
}

fn schema(migrated: &Migrated) -> Vec<Finding> {
    let listed = |all: &[i64]| {
        all.iter()
            .map(i64::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut found = Vec::new();
    let mut wrong = |what: String, right: &str, mend: &str| {
        found.push(Finding::wrong(Area::ReadModels, what, right, mend));
    };
    if !migrated.missing.is_empty() {
        wrong(
            format!("the schema lacks migrations: {}", listed(&migrated.missing)),
            "the form that this release knows",
            "`chat4all provision`; it runs beside the old code",
        );
    }
    if !migrated.unknown.is_empty() {
        wrong(
            format!(
                "the schema has migrations that this release does not know: {}",
                listed(&migrated.unknown)
            ),
            "a release as new as the schema",
            "install the newer release again; docs/operations.md, \"Upgrade and roll back\"",
        );
    }
    if !migrated.broken.is_empty() {
        wrong(
            format!(
                "migrations that are not this release's, or did not end: {}",
                listed(&migrated.broken)
            ),
            "migrations as this release has them",
            "stop the projectors, `drop schema chat4all cascade`, `chat4all provision`: everything is folded again",
        );
    }
    found
}

/// A checkpoint beyond its stream, or one of another event there, is of another log.
async fn of_this_log(
    log: &Log,
    partition: Partition,
    at: checkpoint::Checkpoint,
) -> Option<Finding> {
    if at.sequence == 0 || partition.number() >= log.partitions().get() {
        return None;
    }
    let deadline = Instant::now() + PATIENCE;
    let wrong = |what: String| {
        Finding::wrong(
            Area::ReadModels,
            what,
            "read models of the log that nats.url points to",
            "bring the right log back; if this one is the truth now, `chat4all rebuild --accept-differences`",
        )
    };
    match log.event_at(partition, at.sequence, deadline).await {
        Ok(None) => Some(wrong(format!(
            "the read models are ahead of the log: checkpoint {partition}-{} is beyond its end",
            at.sequence
        ))),
        Ok(Some(stored)) => {
            let folded = at.recorded_at?;
            (recorded_at(&stored) != folded).then(|| {
                wrong(format!(
                    "the event at {partition}-{} is not the one that was folded there: the read models are of another log",
                    at.sequence
                ))
            })
        }
        Err(error) => Some(Finding::wrong(
            Area::ReadModels,
            format!(
                "the event of checkpoint {partition}-{} cannot be read: {}",
                at.sequence,
                Chain(&error)
            ),
            "a broker that answers",
            "look at the broker first, then run this again",
        )),
    }
}

/// When an event was recorded; of one that does not tell, when the broker stored it. As the projector has it.
fn recorded_at(stored: &Stored) -> Timestamp {
    let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
    let told = change.ok().and_then(|change| match change {
        Change::Conversation(_, events) => events.last().map(|event| event.recorded_at),
        Change::Message(_, events) => events.last().map(|event| event.recorded_at),
        Change::Delivery(_, events) => events.last().map(|event| event.recorded_at),
        Change::Reader(_, events) => events.last().map(|event| event.recorded_at),
        Change::Identity(_, events) => events.last().map(|event| event.recorded_at),
    });
    told.unwrap_or_else(|| {
        let ms = stored.stored_at_ns.div_euclid(1_000_000);
        Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or(i64::MAX))
    })
}
