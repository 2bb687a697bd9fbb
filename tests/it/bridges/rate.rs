//! An account's rate is of all workers together: each has as much of it as it has partitions.

use chat4all_channel_bridges::config::Account;
use chat4all_domain::delivery::Status;

use super::sharing::{spread, two_workers};
use super::stage::{Stage, number, until};
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
/// Who has but half of the rate makes fewer calls per second.
const ENOUGH: f64 = RATE as f64 * 0.65;

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_workers_has_half_of_the_rate_and_who_is_left_of_them_has_all_of_it() {
    let stage = Stage::with(|_, config| {
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        account.rate_per_s = u64::try_from(RATE).unwrap();
    })
    .await;
    let ([stays, goes], metrics) = two_workers(&stage).await;

    // One of them alone would need eight seconds, as would two of which each has a quarter.
    let rate = rate_of_all(&stage).await;
    assert!(rate > ENOUGH, "{rate:.1}/s: not both took part");
    let half = format!(
        "chat4all_bridge_attempts_total{{channel=\"whatsapp\",account=\"whatsapp-main\"}} {}",
        ALL / 2
    );
    for counted in &metrics {
        let page = counted.encode().unwrap();
        assert!(page.lines().any(|line| line == half), "no {half} in {page}");
    }

    goes.stop().await;
    let js = stage.node.log.jetstream();
    until(
        async || leases_on(js, "bridge-whatsapp").await,
        |leases| shares(leases) == [8],
    )
    .await;
    // With its half it would need eight seconds again.
    let rate = rate_of_all(&stage).await;
    assert!(rate > ENOUGH, "{rate:.1}/s: its share has not grown");
    stays.stop().await;
}

/// Posts to all and waits until it is handed over: calls per second, which are never more than the account may make.
async fn rate_of_all(stage: &Stage) -> f64 {
    let before = stage.calls().await.len();
    let mut posted = Vec::new();
    for (i, lane) in spread(stage, CONVERSATIONS).into_iter().enumerate() {
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
    let times = calls[before..]
        .iter()
        .map(|call| call["at_unix_us"].as_u64().unwrap());
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    assert_eq!(times.len(), ALL, "each recipient once");
    let most = most_in_a_second(&times);
    let took = (times[ALL - 1] - times[0]) as f64 / 1e6;
    println!("{ALL} calls in {took:.2} s, at most {most} in any second");
    assert!(most <= RATE + BURST + HELD_UP, "{most} in a second");
    (ALL - 1) as f64 / took
}

fn most_in_a_second(times: &[u64]) -> usize {
    let within = |(i, from): (usize, &u64)| {
        let second = times[i..].iter().take_while(|at| *at - from < 1_000_000);
        second.count()
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}
