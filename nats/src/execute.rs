//! The one write path: state → decide → append with the expected revision → on conflict reload and decide again.
//!
//! Commands for one aggregate queue per process and are decided together, in order: one envelope, one append. The work
//! runs in a task of its own, so a caller who goes away does not stop it half-way.
//!
//! A cached state may only lead to an append. Before a command is refused, or found to have nothing to do, the tail is
//! read from the stream's leader and everything is decided once more.
//!
//! Guarantee: every answer is true. `Ok` means on the log (on disk, by the broker's `sync_interval: always`); every error
//! but [`Error::Unknown`] means that nothing of this command is on the log or will be. Limit: a leader that was cut off and
//! does not know it yet may confirm a refusal that is some seconds old.

mod context;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{Aggregate, CommandId, Position, Revision};
use cqrs_es::event_sink::EventSink;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::append::{self, Append};
use crate::codec::{self, Meta};
use crate::load::{self, Loaded};
use crate::store::{Inner, Store};
use crate::subject;

pub use context::{Assume, Context, Purpose, Retry};

/// Conflicts an API caller puts up with before being told (409).
pub const API_RETRIES: u32 = 5;
/// Commands decided together at most.
const MAX_BATCH: usize = 64;
/// Bytes of events that are put into one envelope together; a single command may need more.
const BATCH_BYTES: usize = 128 * 1024;
/// How long before the deadline the work itself gives up, so that the caller hears what is known instead of "unknown".
const ANSWER_BEFORE: Duration = Duration::from_millis(100);

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Executed<A: Aggregate> {
    /// The events it made; empty when there was nothing to do.
    pub events: Vec<A::Event>,
    /// The aggregate at `revision`: with what was decided together with this command, also behind it. A state that had less would be
    /// taken for that revision by whoever keeps it, and what is missing would never be added.
    pub state: A,
    /// The revision of its last event.
    pub revision: Revision,
    /// The revision of its first event.
    pub created: Revision,
    /// [`Executed::revision`], as readers name it: reading up to here shows what this command did or found.
    pub position: Position,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error<R: std::error::Error + 'static> {
    /// The domain refuses it. Confirmed by the leader.
    #[error("the command was refused")]
    Rejected(#[source] R),
    /// Others were faster, again and again. Nothing was stored; try again.
    #[error("too many others are changing the same thing")]
    Conflict,
    /// The log has no room. Nothing was stored.
    #[error("the log is full")]
    Full,
    /// More than fits into one envelope. Nothing was stored.
    #[error("the events have {bytes} bytes, which is more than the log takes")]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
    /// The log is out of reach. Nothing was stored.
    #[error("the log is out of reach")]
    Unavailable,
    /// No answer in time: it may have been stored, or come to be. Repeating is safe if the command is.
    #[error("the log did not confirm in time")]
    Unknown,
    /// The aggregate's history cannot be read. Somebody must look.
    #[error("the history cannot be read: {0}")]
    Broken(String),
}

/// A command in the queue of its aggregate.
pub(crate) struct Waiting<A: Aggregate> {
    command: A::Command,
    context: Context,
    conflicts: u32,
    answer: oneshot::Sender<Answer<A>>,
}

type Answer<A> = Result<Executed<A>, Error<<A as cqrs_es::Aggregate>::Error>>;

impl<A: Aggregate> Store<A> {
    /// Carries `command` out on aggregate `id`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn execute(&self, id: &A::Id, command: A::Command, context: Context) -> Answer<A> {
        let deadline = context.deadline;
        let (answer, answered) = oneshot::channel();
        self.enqueue(
            id,
            Waiting {
                command,
                context,
                conflicts: 0,
                answer,
            },
        );
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            // The task died, or the deadline came first: it may still go through.
            Ok(Err(_)) | Err(_) => Err(Error::Unknown),
        }
    }

    fn enqueue(&self, id: &A::Id, waiting: Waiting<A>) {
        let mut queues = self
            .inner
            .queues
            .lock()
            .expect("no code panics while it holds this lock");
        if let Some(queue) = queues.get_mut(id) {
            queue.push_back(waiting);
            return;
        }
        queues.insert(id.clone(), VecDeque::from([waiting]));
        drop(queues);
        let worker = Worker {
            inner: Arc::clone(&self.inner),
            id: id.clone(),
            finished: false,
        };
        self.inner.tasks.spawn(worker.run());
    }
}

/// Works through one aggregate's queue until it is empty.
struct Worker<A: Aggregate> {
    inner: Arc<Inner<A>>,
    id: A::Id,
    /// The queue was found empty and is gone: another worker may have the aggregate already.
    finished: bool,
}

/// Whatever happens to the worker, its queue does not stay behind without one: those who wait are told "unknown".
impl<A: Aggregate> Drop for Worker<A> {
    fn drop(&mut self) {
        if !self.finished {
            let mut queues = self
                .inner
                .queues
                .lock()
                .expect("no code panics while it holds this lock");
            queues.remove(&self.id);
        }
    }
}

/// A command that was decided, with the events it led to.
struct Decided<A: Aggregate> {
    waiting: Waiting<A>,
    outcome: Result<Vec<A::Event>, A::Error>,
}

impl<A: Aggregate> Worker<A> {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.carry_out(batch).await;
        }
    }

    fn next_batch(&mut self) -> Option<VecDeque<Waiting<A>>> {
        let mut queues = self
            .inner
            .queues
            .lock()
            .expect("no code panics while it holds this lock");
        let queue = queues.get_mut(&self.id)?;
        if queue.is_empty() {
            queues.remove(&self.id);
            self.finished = true;
            return None;
        }
        Some(queue.drain(..queue.len().min(MAX_BATCH)).collect())
    }

    /// Answers every command of `batch`. One id serves all its tries; what does not fit into the envelope comes next.
    async fn carry_out(&self, mut batch: VecDeque<Waiting<A>>) {
        while let Some(latest) = batch.iter().map(|waiting| waiting.context.deadline).max() {
            let command_id = CommandId::new(Uuid::now_v7());
            let until = latest - ANSWER_BEFORE;
            if let Err(error) = self.one_envelope(&mut batch, command_id, until).await {
                batch
                    .drain(..)
                    .for_each(|waiting| answer(waiting, Err(error.clone())));
            }
        }
    }

    /// Decides, appends and answers a first part of `batch`, as much as one envelope holds.
    async fn one_envelope(
        &self,
        batch: &mut VecDeque<Waiting<A>>,
        command_id: CommandId,
        deadline: Instant,
    ) -> Result<(), Error<A::Error>> {
        let (mut base, mut confirmed) = self.base(batch, deadline).await?;
        loop {
            let (decided, state) = self.decide(batch, &base).await;
            if !confirmed && decided.iter().any(Decided::needs_confirmation) {
                requeue(batch, decided);
                base = self.confirm(base, deadline).await?;
                confirmed = true;
                continue;
            }
            let events: Vec<_> = decided.iter().flat_map(Decided::events).cloned().collect();
            if events.is_empty() {
                self.settle(decided, base);
                return Ok(());
            }
            if self.full_for(&decided) {
                // Who repeats what is stored already takes nothing in: only the leader can tell.
                if !confirmed {
                    requeue(batch, decided);
                    base = self.confirm(base, deadline).await?;
                    confirmed = true;
                    continue;
                }
                refuse_full(batch, decided);
                return Ok(());
            }
            let append = self.envelope(&decided, &events, &base, command_id);
            match append::append(&self.inner.log, &append, deadline).await {
                Ok(revision) => {
                    let created = if base.created == Revision::NONE {
                        revision
                    } else {
                        base.created
                    };
                    let version = base.version + events.len() as u64;
                    self.settle(
                        decided,
                        Loaded {
                            state,
                            revision,
                            created,
                            version,
                        },
                    );
                    return Ok(());
                }
                Err(append::Error::Conflict { .. }) => {
                    requeue_after_conflict(batch, decided);
                    base = self.confirm(base, deadline).await?;
                    confirmed = true;
                }
                Err(error) => {
                    // Also when it is certain that nothing was stored: the state is not worth a doubt.
                    self.inner.cache.evict(&self.id);
                    let error = refused(error);
                    decided
                        .into_iter()
                        .for_each(|d| answer(d.waiting, Err(error.clone())));
                    return Ok(());
                }
            }
        }
    }

    /// The state to decide on, and whether the leader has confirmed it.
    async fn base(
        &self,
        batch: &VecDeque<Waiting<A>>,
        deadline: Instant,
    ) -> Result<(Loaded<A>, bool), Error<A::Error>> {
        if let Some(cached) = self.inner.cache.get(&self.id) {
            return Ok(((*cached).clone(), false));
        }
        if batch
            .iter()
            .all(|waiting| waiting.context.assume == Assume::Absent)
        {
            return Ok((Loaded::default(), false));
        }
        let loaded = load::load(&self.inner.log, &self.id, load::From::Replica, deadline).await;
        loaded.map(|loaded| (loaded, false)).map_err(unreadable)
    }

    async fn confirm(
        &self,
        base: Loaded<A>,
        deadline: Instant,
    ) -> Result<Loaded<A>, Error<A::Error>> {
        load::catch_up(
            &self.inner.log,
            &self.id,
            base,
            load::From::Leader,
            deadline,
        )
        .await
        .map_err(unreadable)
    }

    /// Decides commands in order, each on the state the one before it leaves, until an envelope is full. Gives the state after all of
    /// them, too.
    async fn decide(
        &self,
        batch: &mut VecDeque<Waiting<A>>,
        base: &Loaded<A>,
    ) -> (Vec<Decided<A>>, A) {
        let mut state = base.state.clone();
        let mut decided = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        while let Some(waiting) = batch.pop_front() {
            let sink = EventSink::default();
            let mut next = state.clone();
            let outcome = match next.handle(waiting.command.clone(), &(), &sink).await {
                Ok(()) => {
                    let events = sink.collect().await;
                    // The size matters only when there is company.
                    if !decided.is_empty() || !batch.is_empty() {
                        bytes += serde_json::to_vec(&events).map_or(0, |json| json.len());
                    }
                    Ok(events)
                }
                Err(rejection) => Err(rejection),
            };
            if bytes > BATCH_BYTES && !decided.is_empty() {
                batch.push_front(waiting);
                break;
            }
            if outcome.is_ok() {
                state = next;
            }
            decided.push(Decided { waiting, outcome });
        }
        (decided, state)
    }

    fn full_for(&self, decided: &[Decided<A>]) -> bool {
        let log = &self.inner.log;
        !log.fullness().accepts(log.partition_of(&self.id))
            && decided.iter().any(Decided::takes_something_in)
    }

    fn envelope(
        &self,
        decided: &[Decided<A>],
        events: &[A::Event],
        base: &Loaded<A>,
        command_id: CommandId,
    ) -> Append {
        let changing = || decided.iter().filter(|d| d.events().next().is_some());
        let traceparents: Vec<_> = changing()
            .filter_map(|d| d.waiting.context.traceparent.clone())
            .collect();
        let recorded_at = changing().map(|d| d.waiting.context.now).max();
        let recorded_at =
            recorded_at.expect("an envelope has at least one event, and so a command");
        let log = &self.inner.log;
        Append {
            partition: log.partition_of(&self.id),
            subject: subject::of(log.partitions(), &self.id),
            command_id,
            expected: base.revision,
            headers: codec::headers(command_id, events, &traceparents),
            payload: codec::encode::<A>(
                &self.id,
                command_id,
                base.version + 1,
                events,
                &Meta { recorded_at },
            ),
        }
    }

    /// Everything is as `loaded` says now: keep it and tell everybody.
    fn settle(&self, decided: Vec<Decided<A>>, loaded: Loaded<A>) {
        let loaded = self.inner.cache.put(&self.id, loaded);
        let partition = self.inner.log.partition_of(&self.id);
        for Decided { waiting, outcome } in decided {
            let executed = outcome.map_err(Error::Rejected).map(|events| Executed {
                events,
                state: loaded.state.clone(),
                revision: loaded.revision,
                created: loaded.created,
                position: loaded.revision.at(partition),
            });
            answer(waiting, executed);
        }
    }
}

impl<A: Aggregate> Decided<A> {
    fn events(&self) -> impl Iterator<Item = &A::Event> {
        self.outcome.iter().flatten()
    }
    /// A refusal or a "nothing to do" must not rest on a state that may be old.
    fn needs_confirmation(&self) -> bool {
        self.events().next().is_none()
    }
    fn takes_something_in(&self) -> bool {
        self.waiting.context.purpose == Purpose::Accept && self.events().next().is_some()
    }
}

/// Answers "full" to those who would take something in, and leaves the others for the next envelope.
fn refuse_full<A: Aggregate>(batch: &mut VecDeque<Waiting<A>>, decided: Vec<Decided<A>>) {
    let (refused, others): (Vec<_>, Vec<_>) =
        decided.into_iter().partition(Decided::takes_something_in);
    requeue(batch, others);
    refused
        .into_iter()
        .for_each(|decided| answer(decided.waiting, Err(Error::Full)));
}

/// Puts what was decided back where it came from, in order.
fn requeue<A: Aggregate>(batch: &mut VecDeque<Waiting<A>>, decided: Vec<Decided<A>>) {
    for decided in decided.into_iter().rev() {
        batch.push_front(decided.waiting);
    }
}

/// As [`requeue`], but those who have lost too many races are told so.
fn requeue_after_conflict<A: Aggregate>(
    batch: &mut VecDeque<Waiting<A>>,
    decided: Vec<Decided<A>>,
) {
    for Decided { mut waiting, .. } in decided.into_iter().rev() {
        waiting.conflicts += 1;
        match waiting.context.retry {
            Retry::Api if waiting.conflicts > API_RETRIES => answer(waiting, Err(Error::Conflict)),
            // Nobody waits any more, and nothing of it is stored: no reason to go on against everybody.
            _ if waiting.context.deadline <= Instant::now() => {
                answer(waiting, Err(Error::Conflict));
            }
            Retry::Api | Retry::UntilDeadline => batch.push_front(waiting),
        }
    }
}

fn answer<A: Aggregate>(waiting: Waiting<A>, result: Answer<A>) {
    // A caller who has gone away does not need to be told.
    drop(waiting.answer.send(result));
}

fn unreadable<R: std::error::Error>(error: load::Error) -> Error<R> {
    match error {
        load::Error::Read { .. } => Error::Unavailable,
        load::Error::Decode { .. } | load::Error::Hole { .. } => Error::Broken(error.to_string()),
    }
}

fn refused<R: std::error::Error>(error: append::Error) -> Error<R> {
    match error {
        append::Error::Full => Error::Full,
        append::Error::TooLarge { bytes } => Error::TooLarge { bytes },
        append::Error::Unavailable => Error::Unavailable,
        append::Error::Unknown => Error::Unknown,
        append::Error::Conflict { .. } => Error::Conflict,
    }
}
