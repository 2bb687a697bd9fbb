//! Follows every lane that somebody wants once per process, and puts what happens into the queues of those it is for.
//!
//! A lane that nobody has wanted for a minute is not followed any more: every event that is delivered costs the broker and this
//! process something, also when it is dropped.
//!
//! What is needed to know whom it is for (who was in the conversation when, where a message stands) is read from the log and
//! kept; it does not rest on Postgres. While nobody listens to a lane nothing of it is decoded.

use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{ConversationId, message};
use chat4all_nats::range::Range;
use chat4all_nats::{Change, Feed, Log, ReadError, Stored, reader, subject};
use chat4all_service::Chain;
use moka::sync::Cache;
use tokio::time::{Instant, interval_at};
use tracing::warn;

use super::entry::Entry;
use super::lane::Lane;
use super::members::Members;
use super::metrics::Metrics;
use super::registry::{Known, Missing, Registry};

/// Conversations whose members are kept.
const KEPT_CONVERSATIONS: u64 = 10_000;
/// Messages whose places are kept.
const KEPT_MESSAGES: u64 = 50_000;
/// How long one read may take before the next try.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a lane is followed when nobody wants it any more.
const LINGER: Duration = Duration::from_secs(60);
/// How often it is looked whether the connection is another one, and whether anybody still wants the lane.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many looks in a row, [`PAUSE`] apart, have to find a log shorter than what was shown of it.
const SHORTER: u32 = 8;
/// The pause after a failure.
pub const PAUSE: Duration = Duration::from_millis(250);

/// A log and who listens to it.
pub struct Hub {
    /// The log.
    pub log: Log,
    /// Its lanes, by number.
    pub lanes: Vec<Lane>,
    metrics: Metrics,
    members: Cache<ConversationId, Arc<Members>>,
    messages: Cache<message::Id, u64>,
}

impl Hub {
    /// Nobody listens yet.
    pub fn new(log: Log, metrics: Metrics) -> Self {
        Self {
            lanes: Lane::all(&log),
            log,
            metrics,
            members: Cache::new(KEPT_CONVERSATIONS),
            messages: Cache::new(KEPT_MESSAGES),
        }
    }

    /// How often the logs of these lanes turned out to be others, all together.
    pub fn replaced(&self, lanes: std::ops::Range<usize>) -> u64 {
        self.lanes[lanes].iter().map(Lane::replaced).sum()
    }

    /// Follows a lane for ever, while somebody wants it.
    pub async fn follow(&self, lane: &Lane) {
        let mut after = None;
        loop {
            lane.until_wanted().await;
            let Err(error) = self.follow_from(lane, &mut after).await else {
                // How conversations change meanwhile is not seen.
                self.members.invalidate_all();
                after = None;
                continue;
            };
            warn!(stream = lane.stream, error = %Chain(&error), "following {} was interrupted", lane.stream);
            if matches!(error, reader::Error::Ahead { .. }) {
                // What those who listen have seen is not in this log.
                lane.forget();
                self.members.invalidate_all();
                self.messages.invalidate_all();
                after = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until nobody wants it any more; then it is not known where the lane is.
    async fn follow_from(&self, lane: &Lane, after: &mut Option<u64>) -> Result<(), reader::Error> {
        let begin = match *after {
            Some(after) => after,
            None => self.end_of(lane).await,
        };
        let mut feed = Feed::open(self.log.clone(), lane.spec(), begin).await?;
        if after.is_none() {
            lane.show_up_to(&mut lane.registry(), begin);
            *after = Some(begin);
        }
        let mut known = self.log.connection();
        let mut unwanted_since = None;
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        loop {
            tokio::select! {
                stored = feed.next() => {
                    let stored = stored?;
                    let sequence = stored.sequence;
                    self.show(lane, stored).await;
                    *after = Some(sequence);
                }
                now = look.tick() => {
                    let connection = self.log.connection();
                    if connection.is_some() && connection != known {
                        self.refuse_another_log(lane, *after).await?;
                        known = connection;
                    }
                    if lane.is_wanted() {
                        unwanted_since = None;
                    } else if now - *unwanted_since.get_or_insert(now) >= LINGER
                        && lane.rest_unless_wanted()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whoever answers now may have another log: one that does not go as far as what was shown. What does is taken for the
    /// same.
    async fn refuse_another_log(
        &self,
        lane: &Lane,
        after: Option<u64>,
    ) -> Result<(), reader::Error> {
        let position = after.unwrap_or(0);
        let mut shorter = 0;
        loop {
            let deadline = Instant::now() + READ_TIMEOUT;
            match self.log.last_of_stream(&lane.stream, deadline).await {
                Ok(last) if last >= position => return Ok(()),
                // A leader that was elected just now may not know its last messages yet: only what stays so counts.
                Ok(last) if shorter >= SHORTER => {
                    let stream = lane.stream.clone();
                    return Err(reader::Error::Ahead {
                        stream,
                        position,
                        last,
                    });
                }
                Ok(_) => shorter += 1,
                Err(error) => {
                    warn!(stream = lane.stream, %error, "waiting for {}", lane.stream);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn end_of(&self, lane: &Lane) -> u64 {
        loop {
            let deadline = Instant::now() + READ_TIMEOUT;
            match self.log.last_of_stream(&lane.stream, deadline).await {
                Ok(last) => return last,
                Err(error) => {
                    warn!(stream = lane.stream, %error, "waiting for {}", lane.stream);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Puts one message of the log into the queues of those it is for.
    async fn show(&self, lane: &Lane, stored: Stored) {
        let sequence = stored.sequence;
        {
            let mut registry = lane.registry();
            self.look_for_changes(&mut registry, &stored);
            if registry.is_empty() {
                lane.show_up_to(&mut registry, sequence);
                return;
            }
        }
        let entry = Entry::decode(lane, stored).map(Arc::new);
        let mut known = Known::default();
        loop {
            let missing = {
                let mut registry = lane.registry();
                // Whoever has joined since is looked at, too.
                let shown = entry
                    .as_ref()
                    .map_or(Ok(0), |entry| registry.show(entry, &known));
                match shown {
                    Ok(overtaken) => {
                        self.metrics.overtaken(overtaken);
                        lane.show_up_to(&mut registry, sequence);
                        return;
                    }
                    Err(missing) => missing,
                }
            };
            self.learn(lane, missing, &mut known).await;
        }
    }

    /// What was read about a conversation before it changed is not kept.
    fn look_for_changes(&self, registry: &mut Registry, stored: &Stored) {
        if let Some((_, path)) = subject::parse(&stored.subject)
            && path.starts_with("conversation.")
            && let Some(conversation) = subject::conversation(&stored.subject)
        {
            registry.changes += 1;
            self.members.invalidate(&conversation);
        }
    }

    /// Learns what is missing about an entry of `lane`, however long that takes.
    pub async fn learn(&self, lane: &Lane, missing: Missing, known: &mut Known) {
        loop {
            let deadline = Instant::now() + READ_TIMEOUT;
            let learnt = match missing {
                Missing::Members(conversation) => {
                    let members = self.members(lane, conversation, deadline).await;
                    members.map(|members| known.members = Some(members))
                }
                Missing::Message(id) => {
                    let place = self.place_of(lane, id, deadline).await;
                    place.map(|place| known.message = Some(place))
                }
            };
            let Err(error) = learnt else { return };
            warn!(stream = lane.stream, %error, "waiting for {}", lane.stream);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Forgets who was in a conversation: the next who asks reads the log.
    pub fn forget_members(&self, conversation: ConversationId) {
        self.members.invalidate(&conversation);
    }

    /// Who was in a conversation when, at least up to where its lane was shown when this is called.
    ///
    /// # Errors
    /// The log does not answer by `deadline`.
    pub async fn members(
        &self,
        lane: &Lane,
        conversation: ConversationId,
        deadline: Instant,
    ) -> Result<Arc<Members>, ReadError> {
        let changes = {
            let registry = lane.registry();
            if let Some(members) = self.members.get(&conversation) {
                return Ok(members);
            }
            registry.changes
        };
        let (mut members, mut from) = (Members::default(), 0);
        let subjects = lane.about(conversation);
        loop {
            let range = Range {
                stream: &lane.stream,
                subject: &subjects[0],
                from,
                up_to: u64::MAX,
            };
            let batch = self.log.read_range(range, deadline).await?;
            let Some(last) = batch.last() else { break };
            from = last.sequence + 1;
            for stored in &batch {
                // One that cannot be read is a dead letter; what else happened counts all the same.
                if let Ok(Change::Conversation(_, events)) =
                    Change::read(&stored.subject, stored.sequence, &stored.payload)
                {
                    members.fold(&events);
                }
            }
        }
        let members = Arc::new(members);
        let registry = lane.registry();
        if registry.changes == changes && members.exists() {
            self.members.insert(conversation, Arc::clone(&members));
        }
        Ok(members)
    }

    /// Where a message stands; 0 when there is none.
    async fn place_of(
        &self,
        lane: &Lane,
        id: message::Id,
        deadline: Instant,
    ) -> Result<u64, ReadError> {
        if let Some(place) = self.messages.get(&id) {
            return Ok(place);
        }
        let subject = subject::of(self.log.partitions(), &id);
        let range = Range {
            stream: &lane.stream,
            subject: &subject,
            from: 0,
            up_to: u64::MAX,
        };
        let found = self.log.read_range(range, deadline).await?;
        let place = found.first().map_or(0, |stored| stored.sequence);
        if place > 0 {
            self.messages.insert(id, place);
        }
        Ok(place)
    }
}
