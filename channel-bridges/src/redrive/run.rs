//! One job, from where it stands to its end: an item after the other, at its rate, noting its place at least once a second.

use std::sync::Arc;
use std::time::Duration;

use chat4all_nats::lease::Lease;
use chat4all_service::Chain;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::item::{self, Trouble};
use super::job::{CHUNK, Definition, Id, Item, Progress};
use super::jobs::Error;
use super::worker::Redriver;
use crate::clock;

/// How often the place is noted and the operators' word is looked at.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Waits after trouble.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Works on a job until it is done, cancelled, or the lease is asked back. Gives its name back.
pub(super) async fn work(redriver: Arc<Redriver>, id: Id, lease: Arc<Lease>) -> Id {
    let stop = lease.asked_back_token();
    let mut wait = FIRST_WAIT;
    loop {
        match Run::go_on(&redriver, id, &lease).await {
            Ok(Ended::Here) => return id,
            Ok(Ended::Further) => wait = FIRST_WAIT,
            Err(trouble) => {
                // Somebody must look at some of these, and everything comes right when they have.
                if trouble.is_lasting() {
                    error!(job = %id, error = %Chain(&trouble), "redrive `{id}` cannot go on");
                } else {
                    warn!(job = %id, error = %Chain(&trouble), "redrive `{id}` has to wait");
                }
            }
        }
        let waited = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        if waited.is_none() {
            return id;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// How a run ended that met no trouble.
enum Ended {
    /// Nothing is left to do here.
    Here,
    /// Another worker noted its place: begin where that is.
    Further,
}

/// Why a run does not go on.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error("the job cannot be read or noted")]
    Job(#[source] Error),
    #[error("item {place} of its list does not get through")]
    Item {
        place: usize,
        #[source]
        source: Trouble,
    },
}

impl Stuck {
    fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Job(Error::Unreadable { .. } | Error::Missing { .. })
        )
    }
}

struct Run<'a> {
    redriver: &'a Redriver,
    definition: Definition,
    progress: Progress,
    revision: u64,
    /// The part of the list that is worked on.
    chunk: (usize, Vec<Item>),
    /// When the next item may be taken.
    due: Instant,
    noted: (Instant, usize),
}

impl<'a> Run<'a> {
    async fn go_on(redriver: &'a Redriver, id: Id, lease: &Lease) -> Result<Ended, Stuck> {
        let mut run = match Self::open(redriver, id).await {
            Ok(run) => run,
            // It grew too old.
            Err(Error::Unknown { .. }) => {
                warn!(job = %id, "redrive `{id}` is not there any more");
                return Ok(Ended::Here);
            }
            Err(error) => return Err(Stuck::Job(error)),
        };
        let ended = run.work(lease).await;
        // Also after trouble: what is done needs no second look.
        let noted = run.note().await;
        match (ended, noted) {
            (Err(Stuck::Job(Error::Outdated)), _) | (_, Err(Error::Outdated)) => Ok(Ended::Further),
            (Ok(()), Ok(())) => {
                redriver.jobs.close(id).await.map_err(Stuck::Job)?;
                Ok(Ended::Here)
            }
            (Ok(()), Err(error)) => Err(Stuck::Job(error)),
            (Err(stuck), _) => Err(stuck),
        }
    }

    async fn open(redriver: &'a Redriver, id: Id) -> Result<Self, Error> {
        let definition = redriver.jobs.definition(id).await?;
        let (progress, revision) = redriver.jobs.progress(id).await?;
        let (now, next) = (Instant::now(), progress.next);
        Ok(Self {
            redriver,
            definition,
            progress,
            revision,
            chunk: (usize::MAX, Vec::new()),
            due: now,
            noted: (now, next),
        })
    }

    /// Until the end of the list, a word, or the end of the lease.
    async fn work(&mut self, lease: &Lease) -> Result<(), Stuck> {
        let (id, stop) = (self.definition.id, lease.asked_back_token());
        let mut looked: Option<Instant> = None;
        while self.progress.ended_at.is_none() && lease.may_start() {
            if looked.is_none_or(|looked| looked.elapsed() >= NOTE_EVERY) {
                self.progress.started_at.get_or_insert_with(clock::now);
                self.note().await.map_err(Stuck::Job)?;
                let word = self.redriver.jobs.word(id).await.map_err(Stuck::Job)?;
                if word.is_some_and(|word| word.cancel) {
                    info!(job = %id, "redrive `{id}` was cancelled by an operator");
                    return Ok(());
                }
                looked = Some(Instant::now());
            }
            if self.progress.next >= self.definition.total {
                self.progress.ended_at = Some(clock::now());
                let Progress {
                    redriven,
                    skipped,
                    refused,
                    ..
                } = &self.progress;
                info!(job = %id, redriven, skipped, refused, "redrive `{id}` is done");
                return Ok(());
            }
            let due = self.due.min(Instant::now() + NOTE_EVERY);
            let waited = stop.run_until_cancelled(tokio::time::sleep_until(due));
            if waited.await.is_some() && due == self.due {
                self.next().await?;
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<(), Stuck> {
        let place = self.progress.next;
        let item = self.item(place).await.map_err(Stuck::Job)?;
        let began = Instant::now();
        let done = item::redrive(self.redriver, &self.definition, &item).await;
        let outcome = done.map_err(|source| Stuck::Item { place, source })?;
        self.progress.count(&item, outcome);
        self.due = began + Duration::from_secs(1) / self.definition.rate_per_s.max(1);
        Ok(())
    }

    async fn item(&mut self, place: usize) -> Result<Item, Error> {
        let (number, within) = (place / CHUNK, place % CHUNK);
        let id = self.definition.id;
        if self.chunk.0 != number {
            self.chunk = (number, self.redriver.jobs.items(id, number).await?);
        }
        let found = self.chunk.1.get(within).copied();
        let key = || format!("{id}.items.{number:04}");
        found.ok_or_else(|| Error::Missing { key: key() })
    }

    async fn note(&mut self) -> Result<(), Error> {
        let (at, place) = self.noted;
        let (done, seconds) = (self.progress.next - place, at.elapsed().as_secs_f64());
        if done > 0 && seconds > 0.0 {
            self.progress.per_s = rate(done, seconds);
        }
        self.progress.noted_at = Some(clock::now());
        let (id, jobs) = (self.definition.id, &self.redriver.jobs);
        self.revision = jobs.note(id, &self.progress, self.revision).await?;
        self.noted = (Instant::now(), self.progress.next);
        Ok(())
    }
}

/// With one digit behind the point: it is for people.
fn rate(done: usize, seconds: f64) -> f64 {
    let done = u32::try_from(done).unwrap_or(u32::MAX);
    (f64::from(done) / seconds * 10.0).round() / 10.0
}
