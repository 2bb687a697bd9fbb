//! What a restored log refers to, and does not have.
//!
//! The streams of a backup were copied one after the other, so a conversation that was started meanwhile may be in its
//! stream's copy while the identity of somebody in it, appended before, came too late for the copy of *its* stream. This is
//! the only way in which an event refers to another partition: messages, deliveries and marks live in their conversation's,
//! users have no events. The event names identity, channel and address, so the identity can be met again, by the same
//! command and under the same id; only a display name is not known until they write.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Client;
use chat4all_domain::conversation::{Event, Participant, Who};
use chat4all_domain::identity::{self, Identity};
use chat4all_domain::{Address, ChannelKind, IdentityId, Partition, Timestamp};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::execute::{self, Assume, Context, Purpose, Retry};
use crate::streams::Layout;
use crate::{Change, Log, ReadError, Store, direct, log};

/// How long one read or one append may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the log could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log is not there as it should be.
    #[error("failed to open the restored log")]
    Open(#[source] log::Error),
    /// It does not answer.
    #[error("failed to read partition {0} of the restored log")]
    Read(Partition, #[source] ReadError),
    /// It does not take what is missing.
    #[error("failed to complete the restored log")]
    Append(#[source] execute::Error<identity::Rejection>),
}

/// Somebody outside, as a conversation knows them.
struct Contact {
    kind: ChannelKind,
    address: Address,
    at: Timestamp,
}

/// Meets again whoever is in a conversation behind `since` and has no identity on the log; gives how many that were.
/// `since` is where each partition ended before the first of them was copied.
///
/// # Errors
/// [`Error`]; doing it again is harmless.
pub async fn identities(
    client: &Client,
    layout: &Layout,
    backup: &str,
    since: &BTreeMap<Partition, u64>,
    now: Timestamp,
) -> Result<usize, Error> {
    let log = Log::open_for(client.clone(), layout, Some(backup)).await;
    let log = log.map_err(Error::Open)?;
    let tasks = TaskTracker::new();
    let store = Store::<Identity>::new(log.clone(), tasks);
    let mut met = 0;
    for (partition, after) in since {
        for (id, contact) in mentioned(&log, *partition, *after).await? {
            let meet = identity::Command::Meet {
                kind: contact.kind,
                address: contact.address,
                name: None,
                at: contact.at,
            };
            let done = store.execute(&id, meet, context(now)).await;
            let done = done.map_err(Error::Append)?;
            met += usize::from(!done.events.is_empty());
        }
    }
    Ok(met)
}

/// Everybody outside whom a conversation of `partition` names behind `after`.
async fn mentioned(
    log: &Log,
    partition: Partition,
    mut after: u64,
) -> Result<BTreeMap<IdentityId, Contact>, Error> {
    let mut all = BTreeMap::new();
    loop {
        let deadline = Instant::now() + PATIENCE;
        let read = async {
            let mut batch = log.read(partition, after + 1, deadline).await?;
            if batch.is_empty() {
                // A replica that is behind has less than there is: the leader has the last word.
                let next = direct::next_from_leader(log, partition, ">", after + 1, deadline);
                batch.extend(next.await?);
            }
            Ok(batch)
        };
        let batch = read.await;
        let batch = batch.map_err(|error| Error::Read(partition, error))?;
        let Some(last) = batch.last() else {
            return Ok(all);
        };
        after = last.sequence;
        for stored in &batch {
            // What cannot be read names nobody; readers say so at its place.
            let change = Change::read(&stored.subject, stored.sequence, &stored.payload);
            if let Ok(Change::Conversation(_, events)) = change {
                let named = events.iter().flat_map(|event| named(&event.event));
                all.extend(named);
            }
        }
    }
}

fn named(event: &Event) -> Vec<(IdentityId, Contact)> {
    let contact = |participant: &Participant, address: Option<&Address>, at| match (
        &participant.who,
        address,
    ) {
        (Who::Contact { identity, kind, .. }, Some(address)) => {
            let (kind, address) = (*kind, address.clone());
            Some((*identity, Contact { kind, address, at }))
        }
        (Who::Contact { .. }, None) | (Who::User { .. }, _) => None,
    };
    match event {
        Event::Started { facts, personal } => facts
            .participants
            .iter()
            .filter_map(|participant| {
                let address = personal.addresses.get(&participant.participant);
                contact(participant, address, facts.occurred_at)
            })
            .collect(),
        Event::Joined { facts, personal } => {
            let joined = contact(
                &facts.participant,
                personal.address.as_ref(),
                facts.occurred_at,
            );
            joined.into_iter().collect()
        }
        Event::Left { .. } => vec![],
    }
}

fn context(now: Timestamp) -> Context {
    Context {
        now,
        deadline: Instant::now() + PATIENCE,
        retry: Retry::UntilDeadline,
        traceparent: None,
        purpose: Purpose::Outcome,
        assume: Assume::Nothing,
    }
}
