//! The bucket `REDRIVES`: jobs are added, looked at, cancelled and resumed here, by operators and workers alike.
//!
//! Workers look at one key, `open`, the list of jobs that are not done. A job is added to it last, so that nobody begins one
//! whose list is not complete. It is taken from it when it has ended or was cancelled; resuming always writes `open` anew,
//! after the word, so that a worker that is just taking the job away finds another revision and looks again.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use chat4all_nats::range::Range;
use chat4all_nats::{Log, ReadError, streams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::job::{CHUNK, Definition, Id, Item, Job, NewJob, Progress, State, Word};
use crate::bucket::{self, Bucket};

/// The jobs that are not done, as a list of ids.
const OPEN: &str = "open";
/// Others write, too: so often a change is tried anew.
const TRIES: u32 = 20;
/// How long reading all jobs may take.
const LIST_WITHIN: Duration = Duration::from_secs(10);

/// The jobs of an installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    log: Log,
    bucket: Bucket,
}

/// Why jobs could not be looked at, or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker is away, or has no such bucket.
    #[error(
        "the redrives are out of reach; `chat4all provision` makes the bucket REDRIVES if it is missing"
    )]
    Away(#[source] bucket::Error),
    /// As [`Error::Away`], when all of them were asked for.
    #[error(
        "the redrives are out of reach; `chat4all provision` makes the bucket REDRIVES if it is missing"
    )]
    Unlisted(#[source] ReadError),
    /// There is no such job, or not any more.
    #[error("there is no redrive {id}; `chat4all dlq jobs` shows those of the last 90 days")]
    Unknown {
        /// The job.
        id: Id,
    },
    /// Not what this release writes.
    #[error("`{key}` in the bucket REDRIVES cannot be read; was it written by a newer release?")]
    Unreadable {
        /// The key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A part of the list is not there.
    #[error("`{key}` is missing in the bucket REDRIVES: the list of this redrive is not complete")]
    Missing {
        /// The key.
        key: String,
    },
    /// Somebody else wrote in between.
    #[error("somebody else changed this redrive in between; look at it again")]
    Outdated,
    /// There is nothing to cancel or resume any more.
    #[error("redrive {id} is done")]
    Done {
        /// The job.
        id: Id,
    },
}

impl Jobs {
    /// Those on `log`.
    pub fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            bucket: Bucket::new(log.clone(), streams::REDRIVES),
        }
    }

    /// Writes a job with its whole list, then hands it to the workers. Cut off in between, it is [`State::Stopped`].
    ///
    /// # Errors
    /// [`Error::Away`]; nothing was redriven then.
    pub async fn add(&self, asked: NewJob) -> Result<Id, Error> {
        let definition = Definition {
            id: Id::fresh(),
            by: asked.by,
            by_name: asked.by_name,
            at: asked.at,
            what: asked.what,
            rate_per_s: asked.rate_per_s,
            total: asked.items.len(),
        };
        let id = definition.id;
        for (number, chunk) in asked.items.chunks(CHUNK).enumerate() {
            self.put(&items_key(id, number), &chunk).await?;
        }
        self.put(&format!("{id}.definition"), &definition).await?;
        self.open(id).await?;
        Ok(id)
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Away`], [`Error::Unreadable`].
    pub async fn get(&self, id: Id) -> Result<Job, Error> {
        let definition = self.definition(id).await?;
        self.job(definition, &self.all_open().await?.0).await
    }

    /// All jobs of the last 90 days, oldest first.
    ///
    /// # Errors
    /// [`Error::Unlisted`], [`Error::Away`], [`Error::Unreadable`].
    pub async fn all(&self) -> Result<Vec<Job>, Error> {
        let open = self.all_open().await?.0;
        let stream = format!("KV_{}", streams::REDRIVES);
        let subject = format!("$KV.{}.*.definition", streams::REDRIVES);
        let deadline = Instant::now() + LIST_WITHIN;
        let end = self.log.last_of_stream(&stream, deadline).await;
        let (up_to, mut from) = (end.map_err(Error::Unlisted)?, 1);
        let mut found = Vec::new();
        loop {
            let range = Range {
                stream: &stream,
                subject: &subject,
                from,
                up_to,
            };
            let part = self.log.read_range(range, deadline).await;
            let part = part.map_err(Error::Unlisted)?;
            let Some(last) = part.last() else { break };
            from = last.sequence + 1;
            for stored in part {
                let definition = read(&stored.subject, &stored.payload)?;
                found.push(self.job(definition, &open).await?);
            }
        }
        found.sort_by_key(|job| job.definition.id);
        Ok(found)
    }

    /// Says that a job is to stop where it is, or to go on from there.
    ///
    /// # Errors
    /// [`Error::Done`], and as [`Jobs::get`].
    pub async fn say(&self, id: Id, word: &Word) -> Result<Job, Error> {
        let job = self.get(id).await?;
        if job.state == State::Done {
            return Err(Error::Done { id });
        }
        self.put(&format!("{id}.word"), word).await?;
        if !word.cancel {
            self.open(id).await?;
        }
        self.get(id).await
    }

    async fn job(&self, definition: Definition, open: &BTreeSet<Id>) -> Result<Job, Error> {
        let id = definition.id;
        let (word, (progress, _)) = (self.word(id).await?, self.progress(id).await?);
        Ok(Job {
            state: State::of(&progress, word.as_ref(), open.contains(&id)),
            definition,
            progress,
            word,
        })
    }

    pub(super) async fn definition(&self, id: Id) -> Result<Definition, Error> {
        let found = self.last(&format!("{id}.definition")).await?;
        found
            .map(|(definition, _)| definition)
            .ok_or(Error::Unknown { id })
    }

    /// How far a job has come, and the revision for the next note.
    pub(super) async fn progress(&self, id: Id) -> Result<(Progress, u64), Error> {
        let found = self.last(&progress_key(id)).await?;
        Ok(found.unwrap_or_default())
    }

    /// Notes how far a job has come, if nobody else did meanwhile.
    pub(super) async fn note(
        &self,
        id: Id,
        progress: &Progress,
        revision: u64,
    ) -> Result<u64, Error> {
        let value = written(progress);
        let noted = self.bucket.update(&progress_key(id), value, revision).await;
        noted.map_err(not_written)
    }

    pub(super) async fn word(&self, id: Id) -> Result<Option<Word>, Error> {
        let found = self.last(&format!("{id}.word")).await?;
        Ok(found.map(|(word, _)| word))
    }

    /// A part of a job's list, [`CHUNK`] items each but the last.
    pub(super) async fn items(&self, id: Id, number: usize) -> Result<Vec<Item>, Error> {
        let key = items_key(id, number);
        let found = self.last(&key).await?;
        found.map(|(items, _)| items).ok_or(Error::Missing { key })
    }

    /// The jobs that are not done, and the revision of that list.
    pub(super) async fn all_open(&self) -> Result<(BTreeSet<Id>, u64), Error> {
        Ok(self.last(OPEN).await?.unwrap_or_default())
    }

    async fn open(&self, id: Id) -> Result<(), Error> {
        for _ in 0..TRIES {
            let (mut open, revision) = self.all_open().await?;
            open.insert(id);
            match self.write_open(&open, revision).await {
                Err(Error::Outdated) => {}
                done => return done,
            }
        }
        Err(Error::Outdated)
    }

    /// Takes a job from the workers, unless it is to go on.
    pub(super) async fn close(&self, id: Id) -> Result<(), Error> {
        for _ in 0..TRIES {
            // In this order: whoever resumes writes the word first.
            let (mut open, revision) = self.all_open().await?;
            let ended = self.progress(id).await?.0.ended_at.is_some();
            let cancelled = self.word(id).await?.is_some_and(|word| word.cancel);
            if !(ended || cancelled) || !open.remove(&id) {
                return Ok(());
            }
            match self.write_open(&open, revision).await {
                Err(Error::Outdated) => {}
                done => return done,
            }
        }
        Err(Error::Outdated)
    }

    async fn write_open(&self, open: &BTreeSet<Id>, revision: u64) -> Result<(), Error> {
        let wrote = self.bucket.update(OPEN, written(open), revision).await;
        wrote.map(drop).map_err(not_written)
    }

    async fn put(&self, key: &str, value: &impl Serialize) -> Result<(), Error> {
        let put = self.bucket.put(key, written(value)).await;
        put.map_err(Error::Away)
    }

    async fn last<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, u64)>, Error> {
        let found = self.bucket.last(key).await.map_err(Error::Away)?;
        match found {
            Some(value) => Ok(Some((read(key, &value.bytes)?, value.revision))),
            None => Ok(None),
        }
    }
}

fn progress_key(id: Id) -> String {
    format!("{id}.progress")
}

fn items_key(id: Id, number: usize) -> String {
    format!("{id}.items.{number:04}")
}

fn written(value: &impl Serialize) -> Bytes {
    let bytes = serde_json::to_vec(value);
    bytes.expect("structs of words, numbers and times").into()
}

fn read<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    let key = key.to_owned();
    serde_json::from_slice(bytes).map_err(|source| Error::Unreadable { key, source })
}

fn not_written(error: bucket::Error) -> Error {
    match error {
        bucket::Error::Outdated { .. } => Error::Outdated,
        bucket::Error::Away { .. } => Error::Away(error),
    }
}
