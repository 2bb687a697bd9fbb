//! Two workers with half of the partitions each, and conversations in all of them.

use std::collections::BTreeMap;

use chat4all_domain::{ConversationId, MessageId, Partition, delivery};
use chat4all_service::metrics::Metrics;
use uuid::Uuid;

use super::stage::{KIND, Stage, Worker, conversation, until};
use crate::waiting_sharing::site::{leases_on, shares};

/// Starts two workers, waits until each has its half, and gives what each of them counts, too.
pub async fn two_workers(stage: &Stage) -> ([Worker; 2], [Metrics; 2]) {
    let one = stage.bridges().await;
    let other_metrics = Metrics::new();
    let other = stage.worker("bridges-2", &other_metrics, false).await;
    let js = stage.node.log.jetstream();
    until(
        async || leases_on(js, "bridge-whatsapp").await,
        |leases| shares(leases) == [4, 4],
    )
    .await;
    ([one, other], [stage.metrics.clone(), other_metrics])
}

/// So many conversations in each partition, in turns.
pub fn spread(stage: &Stage, each: usize) -> Vec<ConversationId> {
    let mut found = BTreeMap::<Partition, Vec<ConversationId>>::new();
    while found.len() < 8 || found.values().any(|some| some.len() < each) {
        let conversation = conversation();
        let id = delivery::Id {
            kind: KIND,
            conversation,
            message: MessageId::new(Uuid::now_v7()),
        };
        let some = found.entry(stage.node.log.partition_of(&id)).or_default();
        if some.len() < each {
            some.push(conversation);
        }
    }
    let turn = |turn: usize| found.values().map(move |some| some[turn]);
    (0..each).flat_map(turn).collect()
}
