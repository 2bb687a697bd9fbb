//! An account's rate is of all workers together: each has as much of it as it has partitions.

use std::collections::BTreeMap;

use chat4all_channel_bridges::config::Account;
use chat4all_domain::delivery::Status;
use chat4all_domain::{ConversationId, MessageId, Partition, delivery};
use chat4all_service::metrics::Metrics;
use uuid::Uuid;

use super::stage::{KIND, Stage, conversation, number, until};
use crate::waiting_sharing::site::{leases_on, shares};

const RATE: usize = 40;
const WORKERS: usize = 2;
/// Conversations in each partition, and recipients in each of them.
const CONVERSATIONS: usize = 4;
const RECIPIENTS: usize = 5;
const ALL: usize = 8 * CONVERSATIONS * RECIPIENTS;
/// After a silence a worker may make a tenth of a second's worth at once, and begins with a whole call.
const BURST: usize = RATE / 10 + WORKERS;
/// A busy machine holds up calls of a quarter of a second, which then arrive with those that were begun after them.
const HELD_UP: usize = RATE / 4;

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_with_half_of_the_partitions_each_have_half_of_the_rate_each() {
    let stage = Stage::with(|_, config| {
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        account.rate_per_s = u64::try_from(RATE).unwrap();
    })
    .await;
    let one = stage.bridges().await;
    let other_metrics = Metrics::new();
    let other = stage.worker("bridges-2", &other_metrics, false).await;
    let js = stage.node.log.jetstream();
    until(
        async || leases_on(js, "bridge-whatsapp").await,
        |leases| shares(leases) == [4, 4],
    )
    .await;

    let mut posted = Vec::new();
    for (i, lane) in spread(&stage).into_iter().enumerate() {
        let first = i * RECIPIENTS;
        let numbers: Vec<_> = (first..first + RECIPIENTS).map(number).collect();
        posted.push(stage.post(lane, &numbers, "hello").await);
    }
    for one in &posted {
        for n in 0..u16::try_from(RECIPIENTS).unwrap() {
            stage.reaches(one, n, Status::Sent).await;
        }
    }

    let calls = stage.calls().await;
    let times = calls
        .iter()
        .map(|call| call["at_unix_us"].as_u64().unwrap());
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    assert_eq!(times.len(), ALL, "each recipient once");
    let most = most_in_a_second(&times);
    let took = (times[ALL - 1] - times[0]) as f64 / 1e6;
    println!("{ALL} calls in {took:.2} s, at most {most} in any second");
    assert!(most <= RATE + BURST + HELD_UP, "{most} in a second");
    // One of them alone would need eight seconds, as would two of which each has a quarter.
    let rate = (ALL - 1) as f64 / took;
    assert!(rate > RATE as f64 * 0.65, "{rate:.1}/s: not both took part");
    let half = format!(
        "chat4all_bridge_attempts_total{{channel=\"whatsapp\",account=\"whatsapp-main\"}} {}",
        ALL / 2
    );
    for metrics in [&stage.metrics, &other_metrics] {
        let page = metrics.encode().unwrap();
        assert!(page.lines().any(|line| line == half), "no {half} in {page}");
    }
    one.stop().await;
    other.stop().await;
}

/// As many conversations in each partition, in turns.
fn spread(stage: &Stage) -> Vec<ConversationId> {
    let mut found = BTreeMap::<Partition, Vec<ConversationId>>::new();
    while found.len() < 8 || found.values().any(|some| some.len() < CONVERSATIONS) {
        let conversation = conversation();
        let id = delivery::Id {
            kind: KIND,
            conversation,
            message: MessageId::new(Uuid::now_v7()),
        };
        let some = found.entry(stage.node.log.partition_of(&id)).or_default();
        if some.len() < CONVERSATIONS {
            some.push(conversation);
        }
    }
    let turn = |turn: usize| found.values().map(move |some| some[turn]);
    (0..CONVERSATIONS).flat_map(turn).collect()
}

fn most_in_a_second(times: &[u64]) -> usize {
    let within = |(i, from): (usize, &u64)| {
        let second = times[i..].iter().take_while(|at| *at - from < 1_000_000);
        second.count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}
