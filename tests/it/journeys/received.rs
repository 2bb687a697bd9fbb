//! **Receive** while the bridges, which take webhooks and understand them, the broker and the projector are killed with -9:
//! what the provider got a 200 for, what is stored as it came, what is on the log and what is shown are the same messages,
//! each once, each sender's in order. The provider repeats what got no 200.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat4all_cli::embedded::is_running;
use chat4all_service::clock;
use fastrand::Rng;
use futures::future::join_all;
use rustix::process::Signal;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use super::receive::{calls_with, got_200, messages_in, provider_ids, quick_repeats, told_of_all};
use super::system::{Stored, System, by};
use super::{compare, until};
use crate::support::behind::{freeze, level};
use crate::support::seed;
use crate::support::up::send;

const VICTIMS: [&str; 3] = ["bridges", "nats-server", "projector"];
const SENDERS: usize = 8;
/// Messages of each sender around a kill.
const EACH: usize = 12;
/// Kills of each victim that must hit something on its way.
const HITS: usize = 3;
/// Kills that hit nothing are made up for, up to so many of one victim.
const TRIES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_got_a_200_is_shown_once_and_in_order_whatever_is_killed() {
    let mut rng = Rng::with_seed(seed("received"));
    let system = System::split();
    quick_repeats(&system).await;
    let mut written = Written::default();
    let mut hits = VICTIMS.map(|victim| (victim, 0));
    let begun = Instant::now();
    for round in 0.. {
        let missing = hits.iter_mut().filter(|(_, hits)| *hits < HITS);
        let mut missing: Vec<_> = missing.collect();
        if missing.is_empty() {
            break;
        }
        assert!(round < TRIES, "kills that hit something: {missing:?}");
        rng.shuffle(&mut missing);
        for (victim, hits) in missing {
            let cut = killed_in_a_burst(&system, &mut written, &mut rng, victim).await;
            println!(
                "{:?}: {victim} killed with {cut} on their way",
                begun.elapsed()
            );
            *hits += usize::from(cut > 0);
        }
    }
    told_of_all(&system, written.len()).await;
    let ids = written.ids();
    assert_eq!(got_200(&system).await, ids, "the provider got a 200 for");
    let log = on_the_log(&system, &written).await;
    level(&system.env).await;

    // The provider does not keep its order when it has to repeat: what counts is the order in which calls were stored.
    let inbound = system.inbound().await;
    let (mut first_time, repeated) = (BTreeSet::new(), repeated(&inbound));
    let mut arrived: Vec<_> = inbound.iter().flat_map(messages_in).collect();
    arrived.retain(|(id, _)| first_time.insert(id.clone()));
    assert_eq!(first_time, ids, "what was stored is what was written");
    let in_order = |name: &dyn Fn(&String) -> String| {
        let ids = arrived.iter().map(|(id, _)| id);
        by(ids, |id| written.sender(id), name)
    };
    let on_log = by(&log, |id| written.sender(id), String::clone);
    compare("the log", &in_order(&String::clone), &on_log);
    let token = system.full("dora");
    let shown = system.written_by(&token, &senders()).await;
    compare("GraphQL", &in_order(&|id| written.0[id].1.clone()), &shown);
    let tried_again = system.told_of().await;
    let tried_again = tried_again
        .iter()
        .filter(|item| item["attempts"].as_u64() > Some(1));
    let tried_again = tried_again.count();
    println!(
        "{} messages, {tried_again} tried again, {repeated} stored again",
        ids.len()
    );
    assert!(tried_again > 0, "no webhook was cut");
}

fn senders() -> Vec<String> {
    let senders = (0..SENDERS).map(|one| format!("491520000{one:04}"));
    senders.collect()
}

/// How many messages the provider told us of more than once, as far as that was stored.
fn repeated(inbound: &[Stored]) -> usize {
    let calls = calls_with(inbound);
    calls.values().filter(|calls| **calls > 1).count()
}

/// What customers have written: sender and text, by the provider's id.
#[derive(Default)]
struct Written(BTreeMap<String, (String, String)>);

impl Written {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn ids(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }
    fn sender(&self, id: &String) -> Option<String> {
        Some(self.0.get(id)?.0.clone())
    }

    /// Everybody writes, one message after the other.
    async fn burst(&mut self, system: &System) {
        let begun = self.len();
        let all = senders();
        let all = join_all(all.iter().map(async |sender| {
            let mut all = Vec::new();
            for number in 0..EACH {
                let text = format!("{sender}, after {begun}, number {number}");
                let id = system.write_in(sender, &text, None).await;
                all.push((id, (sender.clone(), text)));
            }
            all
        }));
        self.0.extend(all.await.into_iter().flatten());
    }
}

/// Waits until everything is on the log, and names it in its order.
async fn on_the_log(system: &System, written: &Written) -> Vec<String> {
    until(
        "everything is on the log",
        async || provider_ids(&system.log().await),
        |log| log.len() >= written.len(),
    )
    .await
}

/// Kills the victim somewhere in a burst, and says how much was on its way through it: messages that were stored as they
/// came before the kill and understood after it (bridges, broker), or events that were on the log before it and not
/// projected. Returns when everything is on the log, so that nobody is killed who does not work yet.
async fn killed_in_a_burst(
    system: &System,
    written: &mut Written,
    rng: &mut Rng,
    victim: &str,
) -> usize {
    if victim == "projector" {
        level(&system.env).await;
    }
    let told = got_200(system).await.len() + rng.usize(1..SENDERS * EACH / 2);
    let after = Duration::from_micros(rng.u64(..5_000));
    let ((), (behind, before, dead)) = tokio::join!(written.burst(system), async {
        until(
            "that many got a 200",
            async || got_200(system).await.len(),
            |now| *now >= told,
        )
        .await;
        sleep(after).await;
        kill(system, victim).await
    });
    let broker = &system.env["CHAT4ALL_NATS__URL"];
    until(
        "the broker is there",
        async || async_nats::connect(broker).await.map(drop),
        Result::is_ok,
    )
    .await
    .unwrap();
    told_of_all(system, written.len()).await;
    on_the_log(system, written).await;
    match victim {
        "projector" => behind,
        _ => on_their_way(system, before, dead).await,
    }
}

/// How many events the projector had not projected when it was killed, and moments right before and after the kill.
async fn kill(system: &System, victim: &str) -> (usize, OffsetDateTime, OffsetDateTime) {
    let pid = system.up.process(victim);
    let pid = pid.unwrap_or_else(|| panic!("{victim} worked a moment ago, and is gone"));
    let behind = match victim {
        "projector" => freeze(&system.env, pid).await,
        _ => 0,
    };
    let before = clock::now();
    send(pid, Signal::KILL);
    until("its end", async || is_running(pid), |runs| !runs).await;
    let behind = usize::try_from(behind).unwrap();
    (behind, before, clock::now())
}

/// Messages that had been stored as they came at one moment, and were not understood at another, by the broker's own times.
async fn on_their_way(system: &System, before: OffsetDateTime, dead: OffsetDateTime) -> usize {
    let mut stored = BTreeSet::new();
    for call in system.inbound().await {
        if call.at <= before {
            stored.extend(messages_in(&call).into_iter().map(|(id, _)| id));
        }
    }
    let mut log = system.log().await;
    log.retain(|event| event.at > dead);
    let late = provider_ids(&log);
    late.iter().filter(|id| stored.contains(*id)).count()
}
