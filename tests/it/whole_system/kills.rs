//! Kills with -9 at random moments of a load, and what was in flight at each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chat4all_cli::embedded::is_running;
use chat4all_service::clock;
use fastrand::Rng;
use reqwest::Method;
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use super::load::Load;
use super::requests::{End, Requests};
use crate::guarantees::system::System;
use crate::support::behind::freeze;
use crate::support::up::send;

pub const VICTIMS: [&str; 5] = [
    "command-api",
    "projector",
    "query-api",
    "bridges",
    "nats-server",
];
pub const KILLS_EACH: usize = 5;
/// Kills that hit nothing are made up for, up to so many of one victim.
const TRIES_EACH: usize = 3 * KILLS_EACH;
/// Messages posted around a kill.
const BURST: usize = 150;
/// How long a victim may take until it works again.
const PATIENCE: Duration = Duration::from_secs(150);

/// One kill.
#[derive(Debug)]
pub struct Kill {
    pub victim: &'static str,
    /// It was seen dead then, by the clock of this machine.
    pub dead_at: OffsetDateTime,
    /// How much it cut: requests that it had taken and never answered (command-api, query-api), requests sent before it and
    /// not granted when the broker was gone (nats-server), events that were on the log before it and not projected when the
    /// projector was frozen, calls that the provider had taken and not answered (bridges).
    pub hit: usize,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { victim, hit, .. } = self;
        write!(f, "{victim} killed with {hit} in flight")
    }
}

/// Kills each of [`VICTIMS`] until [`KILLS_EACH`] of its kills have hit something, in random order. `up` starts them again;
/// nobody is killed again before it has worked.
pub async fn all(system: &System, load: &Load, rng: &mut Rng) -> Vec<Kill> {
    let mut kills: Vec<Kill> = Vec::new();
    let mut worked = BTreeMap::new();
    loop {
        let of = |victim: &'static str| kills.iter().filter(move |kill| kill.victim == victim);
        let hits = |victim| of(victim).filter(|kill| kill.hit > 0).count();
        let mut left: Vec<_> = VICTIMS
            .into_iter()
            .filter(|victim| hits(victim) < KILLS_EACH && of(victim).count() < TRIES_EACH)
            .collect();
        if left.is_empty() {
            return kills;
        }
        rng.shuffle(&mut left);
        let victim = one_that_works(system, load, &left, &worked).await;
        kills.push(kill(system, load, rng, victim).await);
        worked.insert(victim, work(system, load, victim).await);
    }
}

/// The first of these that has done more than when it had just been killed. Until there is one, a trickle of messages is there
/// for them to work on.
async fn one_that_works(
    system: &System,
    load: &Load,
    victims: &[&'static str],
    worked: &BTreeMap<&str, usize>,
) -> &'static str {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for victim in victims {
            let before = worked.get(victim).copied().unwrap_or(0);
            if work(system, load, victim).await > before {
                return victim;
            }
        }
        let waits = Instant::now() < deadline;
        assert!(waits, "none of {victims:?} works again: {worked:?}");
        load.allow(2);
        sleep(Duration::from_millis(100)).await;
    }
}

/// How much the victim has done so far, seen from outside.
async fn work(system: &System, load: &Load, victim: &str) -> usize {
    match victim {
        "query-api" => load.counts.answered.load(Ordering::SeqCst),
        "projector" => projected(system).await,
        "bridges" => {
            let stats = system.simulator(Method::GET, "stats", None).await;
            usize::try_from(stats["calls"]["total"].as_u64().unwrap()).unwrap()
        }
        _ => load.counts.posted.load(Ordering::SeqCst),
    }
}

/// Somewhere in a burst of messages, at a moment when something is in flight.
async fn kill(system: &System, load: &Load, rng: &mut Rng, victim: &'static str) -> Kill {
    let counts = &load.counts;
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    let from = count(&counts.posted);
    load.allow(BURST);
    counts.eager.store(victim == "query-api", Ordering::SeqCst);
    let moment = from + rng.usize(1..BURST / 2);
    let posted = async || count(&counts.posted) >= moment;
    soon("that many messages are accepted", posted).await;
    sleep(Duration::from_micros(rng.u64(0..20_000))).await;
    let last = system
        .taken_since(0)
        .await
        .last()
        .map_or(0, |call| call.seq);
    let busy = async || match victim {
        "query-api" => !counts.queries.open().is_empty(),
        "bridges" => unanswered(system, last, clock::now()).await > 0,
        _ => {
            load.allow(1);
            !counts.posts.open().is_empty()
        }
    };
    soon(victim, busy).await;
    let pid = system.process(victim);
    let pid = pid.unwrap_or_else(|| panic!("{victim} worked a moment ago, and is gone"));
    let behind = match victim {
        // Soon it is level again: it is caught in the act, and killed where it stands.
        "projector" => freeze(&system.env, pid).await,
        _ => 0,
    };
    let (posts, queries) = (counts.posts.open(), counts.queries.open());
    send(pid, Signal::KILL);
    while is_running(pid) {
        sleep(Duration::from_millis(1)).await;
    }
    let dead_at = clock::now();
    match victim {
        // Who waits for what is behind it goes on waiting: it takes longer than that to start again.
        "nats-server" => sleep(Duration::from_millis(100)).await,
        // The connection is gone: who waited for it notices.
        "command-api" => ended(&counts.posts, &posts).await,
        "query-api" => ended(&counts.queries, &queries).await,
        _ => {}
    }
    let cut = |end| end == Some(End::Cut);
    let hit = match victim {
        // A 202 needs the broker. What had none by now, and is not refused, waits for the next one.
        "nats-server" => counts.posts.count(&posts, |end| {
            end.is_none_or(|end| matches!(end, End::Answered(status) if status.is_server_error()))
        }),
        "projector" => usize::try_from(behind).unwrap(),
        "bridges" => unanswered(system, 0, dead_at).await,
        "command-api" => counts.posts.count(&posts, cut),
        _ => counts.queries.count(&queries, cut),
    };
    counts.eager.store(false, Ordering::SeqCst);
    Kill {
        victim,
        dead_at,
        hit,
    }
}

/// Waits until each of these requests has ended, whichever way.
async fn ended(requests: &Requests, these: &BTreeSet<u64>) {
    let all = async || requests.count(these, |end| end.is_none()) == 0;
    soon("who waited for the dead one notices", all).await;
}

/// Waits for a level.
async fn soon(what: &str, reached: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached().await {
        let waits = Instant::now() < deadline;
        assert!(waits, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Calls after number `since` that had come in at that moment, and whose answer was still to come.
async fn unanswered(system: &System, since: u64, moment: OffsetDateTime) -> usize {
    let at = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap();
    let calls = system.taken_since(since).await;
    let open = calls
        .iter()
        .filter(|call| call.at_unix_ms <= at && at < call.at_unix_ms + call.latency_ms);
    open.count()
}

/// How far the read models are, over all partitions.
async fn projected(system: &System) -> usize {
    let url = &system.env["CHAT4ALL_POSTGRES__URL"];
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sum: Option<i64> =
        sqlx::query_scalar("select sum(sequence)::bigint from chat4all.projector_checkpoint")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    usize::try_from(sum.unwrap_or(0)).unwrap()
}
