//! A log that becomes long quickly.

use async_nats::jetstream;
use bytes::Bytes;
use chat4all_domain::{ConversationId, MessageId, Position, message};
use chat4all_nats::{Log, streams, subject};
use uuid::Uuid;

use crate::projector::story::{Story, conversation, identity_of};

/// Writes what somebody is shown, one after the other, and what nobody is, very many at a time.
pub struct Writer<'a> {
    log: &'a Log,
    story: Story,
    jetstream: jetstream::Context,
    /// That somebody outside was met, as it stands on the log: no subscription is about that.
    met: (String, Bytes),
}

impl<'a> Writer<'a> {
    pub async fn new(log: &'a Log, nats: String) -> Self {
        let jetstream = jetstream::new(async_nats::connect(nats).await.unwrap());
        let story = Story::new(log);
        let at = story.meet(0, None).await.unwrap();
        let stream = streams::name(at.partition);
        let stream = jetstream.get_stream(stream).await.unwrap();
        let met = stream.get_raw_message(at.sequence).await.unwrap();
        Self {
            log,
            story,
            jetstream,
            met: (met.subject.to_string(), met.payload),
        }
    }

    /// One in the partition of who was met, and one in another.
    pub fn conversations(&self) -> [ConversationId; 2] {
        let met = self.log.partition_of(&identity_of(0));
        [true, false].map(|same| {
            let mut all = (0..).map(conversation);
            let found = all.find(|id| (self.log.partition_of(id) == met) == same);
            found.unwrap()
        })
    }

    pub async fn start(&self, id: ConversationId) -> Position {
        self.story.start(id, 2, 0).await.unwrap()
    }

    pub async fn say(&self, id: ConversationId) -> Position {
        let said = self.story.accept(message_of(id), "hello", &[]).await;
        said.unwrap().position
    }

    /// One that no release of ours wrote.
    pub async fn spoil(&self, id: ConversationId) -> Position {
        let subject = subject::of(self.log.partitions(), &message_of(id));
        let sent = self.jetstream.publish(subject, "no envelope".into()).await;
        let stored = sent.unwrap().await.unwrap();
        Position::new(self.log.partition_of(&id), stored.sequence)
    }

    /// Puts so many on the log that nobody is shown, with all of them under way at a time.
    pub async fn pass(&self, count: u64) {
        let (subject, payload) = &self.met;
        let mut sent = Vec::new();
        for _ in 0..count {
            let one = self.jetstream.publish(subject.clone(), payload.clone());
            sent.push(one.await.unwrap());
        }
        for one in sent {
            one.await.unwrap();
        }
    }
}

fn message_of(conversation: ConversationId) -> message::Id {
    message::Id {
        conversation,
        message: MessageId::new(Uuid::now_v7()),
    }
}
