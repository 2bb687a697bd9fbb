//! A decision that panics takes its company's answers with it, but not the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat4all_domain::{Aggregate, Revision, reader};
use chat4all_nats::Store;
use chat4all_nats::execute::Error;
use cqrs_es::event_sink::EventSink;
use futures::future::join_all;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::deliveries::at;
use crate::support::log::{context, one_node};

/// A reader's mark with a bug.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Fragile(chat4all_domain::Reader);

#[derive(Clone, Debug)]
struct Ask {
    sequence: u64,
    bug: Arc<AtomicBool>,
}

impl cqrs_es::Aggregate for Fragile {
    const TYPE: &'static str = "reader";
    type Command = Ask;
    type Event = reader::Event;
    type Error = reader::Rejection;
    type Services = ();

    async fn handle(
        &mut self,
        ask: Ask,
        _services: &(),
        sink: &EventSink<Self>,
    ) -> Result<(), Self::Error> {
        assert!(
            !ask.bug.load(Ordering::SeqCst),
            "a bug, as this test wants it"
        );
        let message = chat4all_domain::MessageId::new(Uuid::from_u128(ask.sequence.into()));
        let (sequence, at) = (ask.sequence, at());
        let command = reader::Command::ReadUpTo {
            message,
            sequence,
            at,
        };
        for event in self.0.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }
    fn apply(&mut self, event: Self::Event) {
        cqrs_es::Aggregate::apply(&mut self.0, event);
    }
}

impl Aggregate for Fragile {
    type Id = reader::Id;
}

#[tokio::test]
async fn a_panic_in_a_decision_leaves_no_queue_without_a_worker() {
    let node = one_node().await;
    let store = Store::<Fragile>::new(node.log.clone(), TaskTracker::new());
    let id = reader::Id {
        conversation: chat4all_domain::ConversationId::new(Uuid::from_u128(1)),
        participant: chat4all_domain::ParticipantId::new(Uuid::from_u128(1)),
    };
    let bug = Arc::new(AtomicBool::new(true));
    let ask = |sequence| Ask {
        sequence,
        bug: Arc::clone(&bug),
    };
    let asked = join_all((1..=100).map(|sequence| store.execute(&id, ask(sequence), context(10))));
    let begun = tokio::time::Instant::now();
    for answer in asked.await {
        assert_eq!(
            answer.map(|executed| executed.revision),
            Err(Error::Unknown)
        );
    }
    let waited = begun.elapsed();
    assert!(
        waited.as_secs() < 5,
        "they were left to their deadline: {waited:?}"
    );

    bug.store(false, Ordering::SeqCst);
    let mended = store.execute(&id, ask(7), context(10)).await.unwrap();
    assert_eq!(
        (mended.revision, mended.state.0.up_to),
        (Revision::new(1), 7)
    );
}
