//! The one way to follow a stream: [`Feed`].
//!
//! A durable pull consumer is not an ordered, gapless feed. An old owner's open pull receives part of a redelivery, a
//! second reader steals messages, a lost batch comes back after `ack_wait` behind later ones. So the durable is only the
//! doorbell and the cheap transport; what counts is the log itself:
//!
//! - a message is taken only if its *stream* sequence is the next one; streams have no holes, so this cannot be fooled by
//!   whatever others do to the durable;
//! - what is not above the own position was read before: acknowledged and dropped;
//! - on a gap, what is missing is read directly from the log, then the reader goes on;
//! - every 5 s without a message, and after every error or reconnect, the log is asked what comes next (a lost *last*
//!   message leaves no gap); what was asked of the durable through a connection is lost with it, so that is asked anew first.
//!
//! A feed with a filter (one subject of a stream that others share) cannot count on neighbouring sequences; there, every
//! gap is checked with one direct read of what comes next on the subject.
//!
//! Acknowledgements mean *folded*, and are a courtesy to `nats consumer report`: nothing rests on them.
//!
//! Source: docs/adr/0004-reading.md.

mod current;
mod durable;
mod pull;
mod spec;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_nats::Subject;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::Log;
use crate::direct::{self, Stored};

pub use current::Current;
pub use spec::{Keep, Spec};

use pull::{Offered, Pull};

/// Without a message for this long, the log is asked directly.
pub const IDLE_CHECK: Duration = Duration::from_secs(5);
/// While somebody else takes messages from the durable, it is asked this often.
const DISTURBED_CHECK: Duration = Duration::from_millis(250);
/// For how long after the last disturbance.
const DISTURBED_FOR: Duration = Duration::from_secs(30);
/// How often a waiting reader looks whether the connection was made anew: what was under way then is lost silently.
const CONNECTION_CHECK: Duration = Duration::from_millis(250);
/// A message that is not acknowledged for this long is offered again.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages on offer at a time; more wait on the broker.
pub const MAX_ACK_PENDING: i64 = 5_000;
/// How long what was folded may wait for its acknowledgement, so that one serves many.
const ACK_EVERY: Duration = Duration::from_millis(250);
/// With so many messages folded, the acknowledgement waits no longer.
const ACK_AT: usize = 1_000;
/// How long a direct read may take before the next try.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a feed cannot go on. Passing trouble (a node that changes, a connection that breaks) is none: it waits.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is not there, or the broker refuses.
    #[error("failed to follow {stream} as {durable}")]
    Consumer {
        /// The stream.
        stream: String,
        /// The durable.
        durable: String,
        /// Why not.
        #[source]
        source: async_nats::Error,
    },
    /// The reader is ahead of the stream: it was restored from an older copy, or the position is another log's.
    #[error(
        "the reader of {stream} stands at {position}, but the stream ends at {last}: not the same log any more"
    )]
    Ahead {
        /// The stream.
        stream: String,
        /// Where the reader stands.
        position: u64,
        /// Where the stream ends.
        last: u64,
    },
}

/// Follows a stream from a position, in order, without a gap and without a double.
///
/// At-least-once for the effect: who folds what it gives must remember the position together with the effect.
pub struct Feed {
    log: Log,
    spec: Spec,
    pull: Option<Pull>,
    /// The connection when the pull was opened, or one before.
    pulled_through: u64,
    /// The last sequence given to the caller.
    position: u64,
    /// The last sequence taken from the stream: everything up to here is given or ready.
    tail: u64,
    ready: VecDeque<Stored>,
    /// The last sequence that had its effect.
    folded: u64,
    /// What was offered and is not acknowledged: sequence and where the acknowledgement goes. One acknowledges all before it.
    unacknowledged: BTreeMap<u64, Subject>,
    acknowledged_at: Option<Instant>,
    disturbed: Option<Instant>,
    /// The log had something that the durable had not offered for as long as one waits.
    silent: bool,
    /// When the log was last known to have nothing that was not taken: by taking what came next, or by asking.
    level_at: Instant,
    /// The log must be asked before the durable is believed again.
    doubtful: bool,
    /// The connection through which the log was asked last: what another one carried may be lost.
    connection: u64,
    /// What the broker had behind the last message, when it sent it.
    pending: u64,
    /// Whether everything that the log is known to have was given out, and had its effect.
    current: Current,
}

impl Feed {
    /// Starts behind `after` (0: from the first message). The durable is made if need be, and reset to that place: what
    /// another reader had acknowledged does not matter.
    ///
    /// # Errors
    /// [`Error::Ahead`] when the stream ends before `after`; [`Error::Consumer`] when the broker refuses.
    pub async fn open(log: Log, spec: Spec, after: u64) -> Result<Self, Error> {
        let (ready, unacknowledged) = (VecDeque::new(), BTreeMap::new());
        let mut feed = Self {
            log,
            spec,
            pull: None,
            pulled_through: 0,
            position: after,
            tail: after,
            folded: after,
            ready,
            unacknowledged,
            acknowledged_at: None,
            disturbed: None,
            silent: false,
            level_at: Instant::now(),
            doubtful: true,
            connection: 0,
            pending: 0,
            current: Current::default(),
        };
        feed.refuse_a_position_ahead().await?;
        feed.make_durable().await?;
        feed.reset_durable().await?;
        feed.pull_anew().await?;
        Ok(feed)
    }

    /// The last sequence that was given out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Shows, while somebody waits in [`Feed::next`], whether the feed is level with the log: nothing is known to be
    /// missing, the connection is up, and what was given out before had its effect.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// The next message. Waits for as long as there is none. Safe to cancel.
    ///
    /// # Errors
    /// Only what waiting cannot mend, see [`Error`].
    pub async fn next(&mut self) -> Result<Stored, Error> {
        loop {
            if let Some(stored) = self.ready.pop_front() {
                self.position = stored.sequence;
                return Ok(stored);
            }
            self.fetch().await?;
        }
    }

    /// What is there already, up to `max` messages and about `max_bytes`; waits for the first one only.
    ///
    /// # Errors
    /// As [`Feed::next`].
    pub async fn next_batch(&mut self, max: usize, max_bytes: usize) -> Result<Vec<Stored>, Error> {
        let first = self.next().await?;
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < max && bytes < max_bytes {
            if self.ready.is_empty() && !self.take_what_has_arrived().await {
                break;
            }
            let Some(stored) = self.ready.pop_front() else {
                continue;
            };
            bytes += stored.payload.len();
            self.position = stored.sequence;
            batch.push(stored);
        }
        Ok(batch)
    }

    /// Everything up to `sequence` has had its effect: tell the broker, for its reports. One acknowledgement serves all of
    /// it, and what follows within a quarter of a second; later ones are sent while somebody waits in [`Feed::next`].
    pub async fn folded(&mut self, sequence: u64) {
        self.folded = self.folded.max(sequence);
        self.acknowledge_what_is_due().await;
    }

    async fn acknowledge_what_is_due(&mut self) {
        let recently = self
            .acknowledged_at
            .is_some_and(|at| at.elapsed() < ACK_EVERY);
        if recently && self.unacknowledged.len() < ACK_AT {
            return;
        }
        let later = self.unacknowledged.split_off(&(self.folded + 1));
        let folded = std::mem::replace(&mut self.unacknowledged, later);
        if let Some((_, reply)) = folded.into_iter().next_back() {
            self.acknowledged_at = Some(Instant::now());
            self.acknowledge(reply).await;
        }
    }

    /// One message from the durable, or what the log has when the durable is silent or in doubt.
    async fn fetch(&mut self) -> Result<(), Error> {
        self.acknowledge_what_is_due().await;
        if self.is_another(self.pulled_through) {
            // Nobody answers what was asked through a connection before: until the pull notices its silence, others' messages
            // would be missing while everything looks level.
            self.doubtful = true;
            self.pull = None;
            self.reopen().await;
        }
        if self.doubtful || self.is_another(self.connection) {
            let silent = std::mem::take(&mut self.silent);
            self.catch_up().await;
            if !self.ready.is_empty() {
                if silent {
                    self.wake_the_durable().await;
                }
                return Ok(());
            }
        }
        let answered = self.pull.is_some() && self.pulled_through == self.connection;
        let level = !self.doubtful && self.pending == 0 && answered;
        if level {
            self.current.set(self.connection);
        }
        // Counted from the last progress: old messages that come again must not hide that new ones do not come.
        let ask_at = self.level_at + self.patience();
        let look_at = ask_at.min(Instant::now() + CONNECTION_CHECK);
        let Some(pull) = &mut self.pull else {
            self.reopen().await;
            return Ok(());
        };
        let arrived = timeout_at(look_at, pull.next()).await;
        self.current.clear();
        match arrived {
            Ok(Ok(message)) => self.consider(message).await,
            Ok(Err(error)) => {
                debug!(stream = %self.spec.stream, %error, "the pull was disturbed");
                self.doubtful = true;
                self.pull = None;
            }
            Err(_) if Instant::now() >= ask_at => {
                self.doubtful = true;
                // While somebody else takes from it, silence is no wonder, and a reset would only be a fight.
                self.silent = self.patience() == IDLE_CHECK;
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// The durable had its time and kept silent, and the log has more: it does not stand where we are.
    async fn wake_the_durable(&mut self) {
        debug!(stream = %self.spec.stream, durable = %self.spec.durable, "the durable is silent although there is more: resetting it");
        if let Err(error) = self.restore_durable().await {
            debug!(%error, "cannot reset the durable yet");
        }
    }

    /// Whether the connection that is up is another one.
    fn is_another(&self, than: u64) -> bool {
        self.log
            .connection()
            .is_some_and(|connection| connection != than)
    }

    fn patience(&self) -> Duration {
        match self.disturbed {
            Some(since) if since.elapsed() < DISTURBED_FOR => DISTURBED_CHECK,
            Some(_) | None => IDLE_CHECK,
        }
    }

    /// Takes one more message if the durable has it at hand.
    async fn take_what_has_arrived(&mut self) -> bool {
        let Some(pull) = &mut self.pull else {
            return false;
        };
        let arrived = futures::poll!(std::pin::pin!(pull.next()));
        match arrived {
            std::task::Poll::Ready(Ok(message)) => {
                self.consider(message).await;
                true
            }
            std::task::Poll::Ready(_) => {
                self.doubtful = true;
                self.pull = None;
                false
            }
            std::task::Poll::Pending => false,
        }
    }

    /// The rule: next in the stream – taken; known – dropped; too far – first what is missing.
    async fn consider(&mut self, offered: Offered) {
        let Offered {
            message,
            sequence,
            stored_at_ns,
            pending,
        } = offered;
        self.pending = pending;
        let reply = message.reply.clone();
        if sequence <= self.tail {
            self.disturbed = Some(Instant::now());
        } else if self.bring_up_to(sequence).await {
            // Filling a gap may have brought this very message along.
            if sequence > self.tail {
                self.take(Stored {
                    subject: message.subject.to_string(),
                    sequence,
                    stored_at_ns,
                    headers: message.headers.unwrap_or_default(),
                    payload: message.payload,
                });
            }
        } else {
            self.doubtful = true;
            return;
        }
        if let Some(reply) = reply.filter(|_| self.spec.keep == Keep::Always) {
            self.unacknowledged.insert(sequence, reply);
        }
    }

    fn take(&mut self, stored: Stored) {
        self.level_at = Instant::now();
        self.tail = stored.sequence;
        self.ready.push_back(stored);
    }

    /// Sees to it that nothing is missing before `sequence`. `false` when the log did not give all of it.
    async fn bring_up_to(&mut self, sequence: u64) -> bool {
        if sequence == self.tail + 1 {
            return true;
        }
        if self.spec.filter.is_some() {
            return self.fill_on_the_subject(sequence).await;
        }
        debug!(stream = %self.spec.stream, from = self.tail + 1, to = sequence, "filling a gap from the log");
        self.disturbed = Some(Instant::now());
        while self.tail + 1 < sequence {
            let Ok(batch) = self.read_on().await else {
                return false;
            };
            if !self.take_in_sequence(batch) {
                return false;
            }
        }
        true
    }

    /// On a shared stream the sequences in between may belong to others, or have passed their age.
    async fn fill_on_the_subject(&mut self, sequence: u64) -> bool {
        while self.tail < sequence {
            let Ok(batch) = self.read_on().await else {
                return false;
            };
            let Some(first) = batch.first() else {
                return false;
            };
            if first.sequence > sequence {
                return true;
            }
            batch.into_iter().for_each(|stored| self.take(stored));
        }
        true
    }

    /// Takes what follows without a hole, of a whole stream. `false` when that was nothing.
    fn take_in_sequence(&mut self, batch: Vec<Stored>) -> bool {
        let before = self.tail;
        for stored in batch {
            if stored.sequence != self.tail + 1 {
                break;
            }
            self.take(stored);
        }
        self.tail > before
    }

    /// Asks the log for what comes next, whatever the durable says.
    async fn catch_up(&mut self) {
        // Looked at before: what a later connection loses is another doubt.
        let connection = self.log.connection();
        if let Ok(batch) = self.read_on().await {
            self.doubtful = false;
            self.connection = connection.unwrap_or(self.connection);
            self.level_at = Instant::now();
            if batch.is_empty() {
                self.pending = 0;
            }
            if self.spec.filter.is_some() {
                batch.into_iter().for_each(|stored| self.take(stored));
            } else if !batch.is_empty() {
                self.doubtful = !self.take_in_sequence(batch);
            }
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A batch of what follows. A replica that is behind gives less; the leader has the last word on "nothing".
    async fn read_on(&self) -> Result<Vec<Stored>, direct::Error> {
        let subject = self.spec.filter.as_deref().unwrap_or(">");
        let deadline = Instant::now() + READ_TIMEOUT;
        let stream = &self.spec.stream;
        let batch = direct::batch(&self.log, stream, subject, self.tail + 1, deadline).await?;
        if !batch.is_empty() {
            return Ok(batch);
        }
        let next = direct::next_on(&self.log, stream, subject, self.tail + 1, deadline).await?;
        Ok(next.into_iter().collect())
    }

    async fn acknowledge(&self, reply: Subject) {
        // Lost with the connection: then it is offered again, found known, and acknowledged.
        if let Err(error) = self.log.client().publish(reply, "+ACK".into()).await {
            debug!(%error, "an acknowledgement was not sent");
        }
    }

    async fn pull_anew(&mut self) -> Result<(), Error> {
        // Looked at before: what a later connection loses is another doubt.
        let through = self.log.connection().unwrap_or_default();
        self.pull = Some(self.open_pull().await?);
        self.pulled_through = through;
        Ok(())
    }

    /// Opens the pull again, or tries once more later; makes the durable anew if somebody deleted it.
    async fn reopen(&mut self) {
        self.doubtful = true;
        match self.pull_anew().await {
            Ok(()) => {}
            Err(error) => {
                debug!(%error, "cannot open the pull yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
                // Making and resetting a durable that is there does no harm.
                if let Err(error) = self.restore_durable().await {
                    debug!(%error, "cannot make the durable yet");
                }
            }
        }
    }

    async fn refuse_a_position_ahead(&self) -> Result<(), Error> {
        let stream = self.log.jetstream().get_stream(&self.spec.stream).await;
        let stream = stream.map_err(|error| self.consumer_error(error.into()))?;
        let last = stream.cached_info().state.last_sequence;
        if self.position > last {
            let (stream, position) = (self.spec.stream.clone(), self.position);
            return Err(Error::Ahead {
                stream,
                position,
                last,
            });
        }
        Ok(())
    }
}
