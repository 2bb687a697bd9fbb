//! The `cqrs-es` [`EventStore`] on the log, implemented directly: its own snapshot store applies every event twice.
//!
//! Chat4All itself writes through [`crate::Store::execute`], which also retries, coalesces and confirms refusals. This is the
//! same log behind the framework's interface, for tools and tests that speak `cqrs-es`.

use std::collections::HashMap;
use std::time::Duration;

use chat4all_domain::{Aggregate, AggregateId, CommandId, Timestamp};
use cqrs_es::{AggregateContext, AggregateError, EventEnvelope, EventStore};
use tokio::time::Instant;
use uuid::Uuid;

use crate::append::{self, Append};
use crate::codec::{self, Meta};
use crate::load::{self, Loaded};
use crate::{Log, subject};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The events of aggregates on the log. An aggregate's `cqrs-es` id is its path: `reader.<conversation>.<participant>`.
#[derive(Clone, Debug)]
pub struct LogEventStore {
    log: Log,
    now: fn() -> Timestamp,
}

/// A loaded aggregate and what its next commit is based on.
#[derive(Debug)]
pub struct Loading<A: Aggregate> {
    id: A::Id,
    loaded: Loaded<A>,
    /// What `handle` is called on; `loaded` keeps the state before.
    working: A,
}

impl<A: Aggregate> AggregateContext<A> for Loading<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.working
    }
}

impl LogEventStore {
    /// Over `log`; `now` says when events are recorded.
    pub fn new(log: Log, now: fn() -> Timestamp) -> Self {
        Self { log, now }
    }
}

type Failed<A> = AggregateError<<A as cqrs_es::Aggregate>::Error>;

impl<A: Aggregate> EventStore<A> for LogEventStore {
    type AC = Loading<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, Failed<A>> {
        let id = parse::<A>(aggregate_id)?;
        let (partition, subject) = (
            self.log.partition_of(&id),
            subject::of(self.log.partitions(), &id),
        );
        let deadline = Instant::now() + DEADLINE;
        let mut events = Vec::new();
        let mut after = 0;
        // One by one from the leader: a complete answer matters more than a quick one here.
        while let Some(stored) =
            crate::direct::next_from_leader(&self.log, partition, &subject, after + 1, deadline)
                .await
                .map_err(|error| AggregateError::DatabaseConnectionError(error.into()))?
        {
            let envelope = codec::decode::<A>(&stored.payload)
                .map_err(|error| AggregateError::DeserializationError(error.into()))?;
            events.extend(envelopes::<A>(
                aggregate_id,
                envelope.version,
                envelope.events,
            ));
            after = stored.sequence;
        }
        Ok(events)
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Loading<A>, Failed<A>> {
        let id = parse::<A>(aggregate_id)?;
        let deadline = Instant::now() + DEADLINE;
        let loaded: Loaded<A> = load::load(&self.log, &id, load::From::Leader, deadline)
            .await
            .map_err(|error| AggregateError::DatabaseConnectionError(error.into()))?;
        let working = loaded.state.clone();
        Ok(Loading {
            id,
            loaded,
            working,
        })
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: Loading<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, Failed<A>> {
        // A command that has nothing to say still commits.
        if events.is_empty() {
            return Ok(vec![]);
        }
        let Loading { id, loaded, .. } = context;
        let command_id = CommandId::new(Uuid::now_v7());
        let version = loaded.version + 1;
        let traceparents: Vec<_> = metadata
            .get(codec::TRACEPARENT)
            .cloned()
            .into_iter()
            .collect();
        let append = Append {
            partition: self.log.partition_of(&id),
            subject: subject::of(self.log.partitions(), &id),
            command_id,
            expected: loaded.revision,
            headers: codec::headers(command_id, &events, &traceparents),
            payload: codec::encode::<A>(
                &id,
                command_id,
                version,
                &events,
                &Meta {
                    recorded_at: (self.now)(),
                },
            ),
        };
        match append::append(&self.log, &append, Instant::now() + DEADLINE).await {
            Ok(_) => Ok(envelopes::<A>(&id.path(), version, events).collect()),
            Err(append::Error::Conflict { .. }) => Err(AggregateError::AggregateConflict),
            Err(error) => Err(AggregateError::DatabaseConnectionError(error.into())),
        }
    }
}

fn parse<A: Aggregate>(aggregate_id: &str) -> Result<A::Id, Failed<A>> {
    A::Id::from_path(aggregate_id).ok_or_else(|| {
        let what = format!("`{aggregate_id}` is not the path of a {}", A::TYPE);
        AggregateError::UnexpectedError(what.into())
    })
}

fn envelopes<A: Aggregate>(
    aggregate_id: &str,
    version: u64,
    events: Vec<A::Event>,
) -> impl Iterator<Item = EventEnvelope<A>> {
    events
        .into_iter()
        .zip(version..)
        .map(move |(payload, version)| EventEnvelope {
            aggregate_id: aggregate_id.to_owned(),
            sequence: usize::try_from(version).unwrap_or(usize::MAX),
            payload,
            metadata: HashMap::new(),
        })
}
