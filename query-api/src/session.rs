//! One request's view of the read models: who asks, what they may see, and batches for what a page's items ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat4all_domain::{ConversationId, IdentityId, MessageId, ParticipantId, Position, UserId};
use chat4all_nats::parked::Item;
use chat4all_postgres::read::conversations::{self, Conversation};
use chat4all_postgres::read::deliveries::{self, Delivery, Happened, Tally};
use chat4all_postgres::read::failed_deliveries::{self, FailedDelivery};
use chat4all_postgres::read::identities::{self, Identity};
use chat4all_postgres::read::marks::{self, Mark};
use chat4all_postgres::read::messages::{self, Message};
use chat4all_postgres::read::participants::{self, Participant};
use chat4all_postgres::read::poison_events::{self, PoisonEvent};
use chat4all_postgres::read::{self, Range, Reader, Slice};
use chat4all_service::Problem;
use chat4all_service::auth::{Caller, Scope};
use tokio::time::Instant;

use crate::api::Models;
use crate::batch::Batch;
use crate::dead_letters::{self, Wanted};
use crate::problem;
use crate::rounds::{Driver, Rounds};

/// How long a request waits for the position it wants to see.
const AT_LEAST_WAIT: Duration = Duration::from_secs(5);

/// Names a message.
pub type MessageKey = (ConversationId, MessageId);
/// Names a participant.
pub type ParticipantKey = (ConversationId, ParticipantId);

/// Reads on behalf of one caller, for one request: what was loaded is not kept for the next.
pub struct Session {
    models: Models,
    caller: Caller,
    reader: Reader,
    conversations: Batch<ConversationId, Conversation, Problem>,
    pages: Batch<(ConversationId, RangeKey), Arc<Slice<Message>>, Problem>,
    messages: Batch<MessageKey, Message, Problem>,
    deliveries: Batch<MessageKey, Arc<Vec<Delivery>>, Problem>,
    tallies: Batch<MessageKey, Tally, Problem>,
    histories: Batch<MessageKey, Arc<Vec<Happened>>, Problem>,
    everybody: Batch<ConversationId, Arc<Vec<Participant>>, Problem>,
    participants: Batch<ParticipantKey, Arc<Participant>, Problem>,
    marks: Batch<ConversationId, Arc<Vec<Mark>>, Problem>,
    identities: Batch<IdentityId, Identity, Problem>,
    failed_deliveries: Batch<failed_deliveries::Key, FailedDelivery, Problem>,
    poison_events: Batch<poison_events::Key, PoisonEvent, Problem>,
    parked_inbound: Batch<u64, Item, Problem>,
}

/// A range as a key: after, before, size, from the end.
type RangeKey = (Option<u64>, Option<u64>, usize, bool);

impl Session {
    /// For `caller`, whose scopes are looked at by [`Session::open`]. Whatever reads through it is driven by the second.
    pub fn new(models: Models, caller: Caller) -> (Self, Driver) {
        let (rounds, driver) = Rounds::new();
        let reader = Reader {
            user: UserId::derive(caller.issuer(), caller.sub()),
            sees_all: caller.may(Scope::ConversationsReadAll),
        };
        let session = Self {
            models,
            caller,
            reader,
            conversations: Batch::new(&rounds),
            pages: Batch::new(&rounds),
            messages: Batch::new(&rounds),
            deliveries: Batch::new(&rounds),
            tallies: Batch::new(&rounds),
            histories: Batch::new(&rounds),
            everybody: Batch::new(&rounds),
            participants: Batch::new(&rounds),
            marks: Batch::new(&rounds),
            identities: Batch::new(&rounds),
            failed_deliveries: Batch::new(&rounds),
            poison_events: Batch::new(&rounds),
            parked_inbound: Batch::new(&rounds),
        };
        (session, driver)
    }

    /// Goes on when the caller may read and everything up to `at_least` is in the rows. Every entry to the reads leads
    /// through here.
    ///
    /// # Errors
    /// 403 without the scope; 503 when the position is not reached within five seconds.
    pub async fn open(&self, at_least: Option<Position>) -> Result<&Self, Problem> {
        self.caller.require(Scope::ConversationsRead)?;
        self.wait_for(at_least).await?;
        Ok(self)
    }

    async fn wait_for(&self, at_least: Option<Position>) -> Result<(), Problem> {
        let Some(position) = at_least else {
            return Ok(());
        };
        let deadline = Instant::now() + AT_LEAST_WAIT;
        let reached = self.models.projected.up_to(position, deadline);
        reached.await.map_err(problem::of_waiting)
    }

    /// As [`Session::open`], for dead letters: they have a scope of their own, and whoever has it sees them all.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub async fn open_dead_letters(&self, at_least: Option<Position>) -> Result<&Self, Problem> {
        self.caller.require(Scope::DeadLettersRead)?;
        self.wait_for(at_least).await?;
        Ok(self)
    }

    /// The message behind a dead letter: read by who may read conversations, if it is theirs to see.
    ///
    /// # Errors
    /// 403 without the scope.
    pub async fn message_of_dead_letter(
        &self,
        key: MessageKey,
    ) -> Result<Option<Message>, Problem> {
        self.open(None).await?.message(key).await
    }

    /// A part of the list of dead letters.
    pub async fn dead_letter_page(
        &self,
        wanted: &Wanted,
        range: Range<dead_letters::Cursor>,
    ) -> Result<dead_letters::Page, Problem> {
        dead_letters::page(&self.models, wanted, range).await
    }

    /// One delivery, if it has failed.
    pub async fn failed_delivery(
        &self,
        key: failed_deliveries::Key,
    ) -> Result<Option<FailedDelivery>, Problem> {
        let load = |keys: Vec<_>| async move {
            told(failed_deliveries::by_key(&self.models.reads, &keys).await)
        };
        self.failed_deliveries.load(key, load).await
    }

    /// The event at a place, if it could not be folded.
    pub async fn poison_event(&self, at: Position) -> Result<Option<PoisonEvent>, Problem> {
        let load = |keys: Vec<_>| async move {
            told(poison_events::by_key(&self.models.reads, &keys).await)
        };
        let key = (at.partition, at.sequence);
        self.poison_events.load(key, load).await
    }

    /// What came in and still is put aside under this sequence.
    pub async fn parked_inbound(&self, sequence: u64) -> Result<Option<Item>, Problem> {
        let load = |keys: Vec<_>| dead_letters::by_sequence(&self.models.parked, keys);
        self.parked_inbound.load(sequence, load).await
    }

    /// A part of the list of conversations.
    pub async fn conversation_page(
        &self,
        only_own: bool,
        range: Range<conversations::Cursor>,
    ) -> Result<Slice<Conversation>, Problem> {
        let page = conversations::page(&self.models.reads, self.reader, only_own, range);
        page.await.map_err(|error| problem::of_read(&error))
    }

    /// One conversation, if it is the caller's to see.
    pub async fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, Problem> {
        let load = |ids: Vec<_>| async move {
            told(conversations::by_id(&self.models.reads, self.reader, &ids).await)
        };
        self.conversations.load(id, load).await
    }

    /// A part of a conversation's messages: those that are the caller's to see.
    pub async fn message_page(
        &self,
        conversation: ConversationId,
        range: Range<u64>,
    ) -> Result<Arc<Slice<Message>>, Problem> {
        let key = (range.after, range.before, range.size, range.from_end);
        let load = |keys: Vec<(ConversationId, RangeKey)>| async move {
            // Items of one list ask with the same arguments; each different range is a statement.
            let mut by_range: BTreeMap<RangeKey, Vec<ConversationId>> = BTreeMap::new();
            for (conversation, range) in keys {
                by_range.entry(range).or_default().push(conversation);
            }
            let mut pages = BTreeMap::new();
            for (key, conversations) in by_range {
                let (after, before, size, from_end) = key;
                let range = Range {
                    after,
                    before,
                    size,
                    from_end,
                };
                let found = messages::pages(&self.models.reads, self.reader, &conversations, range);
                for (conversation, slice) in told(found.await)? {
                    pages.insert((conversation, key), Arc::new(slice));
                }
            }
            Ok(pages)
        };
        let page = self.pages.load((conversation, key), load).await?;
        Ok(page.unwrap_or_default())
    }

    /// One message, if it is the caller's to see.
    pub async fn message(&self, key: MessageKey) -> Result<Option<Message>, Problem> {
        let load = |keys: Vec<_>| async move {
            told(messages::by_key(&self.models.reads, self.reader, &keys).await)
        };
        self.messages.load(key, load).await
    }

    /// The deliveries of a message that the caller sees.
    pub async fn deliveries(&self, key: MessageKey) -> Result<Arc<Vec<Delivery>>, Problem> {
        let load = |keys: Vec<_>| async move {
            shared(deliveries::of_messages(&self.models.reads, &keys).await)
        };
        Ok(self.deliveries.load(key, load).await?.unwrap_or_default())
    }

    /// How many of its deliveries stand where. Where the deliveries are asked for, too, it is they who are counted: an answer
    /// must not say DELIVERED beside deliveries that have all been READ.
    pub async fn tally(&self, key: MessageKey) -> Result<Tally, Problem> {
        let load = |keys: Vec<_>| async move {
            shared(deliveries::of_messages(&self.models.reads, &keys).await)
        };
        if let Some(found) = self.deliveries.load_if_asked(&key, load).await {
            return Ok(Tally::of(&found?.unwrap_or_default()));
        }
        let load = |keys: Vec<_>| async move {
            told(deliveries::tallies(&self.models.reads, &keys).await)
        };
        Ok(self.tallies.load(key, load).await?.unwrap_or_default())
    }

    /// What happened to its deliveries.
    pub async fn history(&self, key: MessageKey) -> Result<Arc<Vec<Happened>>, Problem> {
        let load = |keys: Vec<_>| async move {
            shared(deliveries::histories(&self.models.reads, &keys).await)
        };
        Ok(self.histories.load(key, load).await?.unwrap_or_default())
    }

    /// Everybody whom the caller knows in a conversation.
    pub async fn everybody(&self, id: ConversationId) -> Result<Arc<Vec<Participant>>, Problem> {
        let load = |ids: Vec<_>| async move {
            shared(participants::of_conversations(&self.models.reads, self.reader, &ids).await)
        };
        Ok(self.everybody.load(id, load).await?.unwrap_or_default())
    }

    /// One participant, if the caller knows them.
    pub async fn participant(
        &self,
        key: ParticipantKey,
    ) -> Result<Option<Arc<Participant>>, Problem> {
        let load = |keys: Vec<_>| async move {
            shared(participants::by_key(&self.models.reads, self.reader, &keys).await)
        };
        self.participants.load(key, load).await
    }

    /// How far everybody has read a conversation.
    pub async fn marks(&self, id: ConversationId) -> Result<Arc<Vec<Mark>>, Problem> {
        let load = |ids: Vec<_>| async move {
            shared(marks::of_conversations(&self.models.reads, self.reader, &ids).await)
        };
        Ok(self.marks.load(id, load).await?.unwrap_or_default())
    }

    /// Who has read a message: their marks are at it or behind it, they were there when it was said, and did not say it.
    pub async fn read_by(&self, message: &Message) -> Result<Vec<(Mark, Participant)>, Problem> {
        let (marks, everybody) = futures::future::try_join(
            self.marks(message.conversation),
            self.everybody(message.conversation),
        )
        .await?;
        let known: BTreeMap<_, _> = everybody.iter().map(|known| (known.id, known)).collect();
        let sequence = message.position.sequence;
        let saw_it = |mark: &&Mark| mark.up_to >= sequence && mark.participant != message.author;
        Ok(marks
            .iter()
            .filter(saw_it)
            .filter_map(|mark| {
                let whose = *known.get(&mark.participant)?;
                let was_there = whose.stays.iter().any(|stay| stay.covers(sequence));
                was_there.then(|| (mark.clone(), whose.clone()))
            })
            .collect())
    }

    /// Somebody outside, if the caller knows them.
    pub async fn identity(&self, id: IdentityId) -> Result<Option<Identity>, Problem> {
        let load = |ids: Vec<_>| async move {
            told(identities::by_id(&self.models.reads, self.reader, &ids).await)
        };
        self.identities.load(id, load).await
    }

    /// A part of the list of those whom the caller knows outside.
    pub async fn identity_page(
        &self,
        range: Range<IdentityId>,
    ) -> Result<Slice<Identity>, Problem> {
        let page = identities::page(&self.models.reads, self.reader, range);
        page.await.map_err(|error| problem::of_read(&error))
    }
}

fn told<T>(result: Result<T, read::Error>) -> Result<T, Problem> {
    result.map_err(|error| problem::of_read(&error))
}

/// Large values are shared among those who asked.
fn shared<K: Ord, V>(
    result: Result<BTreeMap<K, V>, read::Error>,
) -> Result<BTreeMap<K, Arc<V>>, Problem> {
    let found = told(result)?;
    Ok(found
        .into_iter()
        .map(|(key, value)| (key, Arc::new(value)))
        .collect())
}
