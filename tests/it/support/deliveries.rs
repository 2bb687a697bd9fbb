//! Deliveries, the simplest thing to write: an attempt is one event, and who was refused learns the last one.

use chat4all_domain::delivery::{self, Command, Operation};
use chat4all_domain::{ChannelKind, ConversationId, Delivery, MessageId, Revision, Timestamp};
use chat4all_nats::{Log, Store, load, subject};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub fn at() -> Timestamp {
    Timestamp::from_unix_ms(1_764_000_000_000)
}

/// The deliveries of message 1 of conversation `number`.
pub fn id(number: u128) -> delivery::Id {
    delivery::Id {
        kind: ChannelKind::WhatsApp,
        conversation: ConversationId::new(Uuid::from_u128(number)),
        message: MessageId::new(Uuid::from_u128(1)),
    }
}

pub fn attempt(n: u16, attempt: u32, owner: &str) -> Command {
    let (op, owner, at) = (Operation::Send, owner.to_owned(), at());
    Command::Attempt {
        n,
        op,
        attempt,
        owner,
        at,
    }
}

pub fn store(log: &Log) -> Store<Delivery> {
    Store::new(log.clone(), TaskTracker::new())
}

/// Every owner that an attempt of `id` on the log names, in order, with the revision of its envelope.
pub async fn owners(log: &Log, id: &delivery::Id) -> Vec<(Revision, String)> {
    let mut all = Vec::new();
    for (sequence, message) in messages(log, id).await {
        let envelope = chat4all_nats::codec::decode::<Delivery>(&message.payload).unwrap();
        all.extend(envelope.events.into_iter().map(|event| {
            let delivery::Event::Attempted { facts } = event else {
                panic!("only attempts were written, not {event:?}")
            };
            (Revision::new(sequence), facts.owner)
        }));
    }
    all
}

/// The messages of `id` as the broker has them, read with nothing of our own.
pub async fn messages(
    log: &Log,
    id: &delivery::Id,
) -> Vec<(u64, async_nats::jetstream::message::StreamMessage)> {
    let (stream, subject) = (
        log.stream(log.partition_of(id)),
        subject::of(log.partitions(), id),
    );
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let mut all = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        if message.subject.as_str() == subject {
            all.push((sequence, message));
        }
    }
    all
}

pub async fn loaded(log: &Log, id: &delivery::Id, from: load::From) -> load::Loaded<Delivery> {
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    load::load(log, id, from, deadline).await.unwrap()
}
