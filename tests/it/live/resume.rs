//! Cut off fifty times each under load, with a broker that is killed in between: nobody misses anything, and nobody sees anything
//! twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat4all_domain::Position;
use rustix::process::Signal;

use super::follower::{Follower, Shown, Way};
use super::{letters, of_users};
use crate::journeys::system::{Stored, System, text};
use crate::support::seed;
use crate::support::up::send;

const CUTS: usize = 50;
const PHONE: &str = "4915150000077";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_cut_off_fifty_times_under_load_misses_nothing_and_sees_nothing_twice() {
    fastrand::seed(seed("live::resume"));
    let system = System::start();
    let ana = system.full("ana");
    // One whose deliveries have something to tell, two that are for users alone, and one of which each message fails.
    letters::nobody_reaches(&system).await;
    let groups = [
        system.group(&ana, &[PHONE]).await,
        of_users(&system, &ana).await,
        of_users(&system, &ana).await,
        system.group(&ana, &[letters::UNREACHABLE]).await,
    ];
    let mut followers = vec![
        Follower::begin(&system, &ana, Way::Conversation(&groups[0])).await,
        Follower::begin(&system, &ana, Way::Mine).await,
        Follower::begin(&system, &ana, Way::Sse).await,
        Follower::begin(&system, &ana, Way::SseOf(&groups[1])).await,
        Follower::begin(&system, &ana, Way::DeadLetters).await,
    ];
    let enough = AtomicBool::new(false);
    let writing = async {
        // What goes to a phone has more to tell, and takes longer until all of it is told.
        let paces = [50, 0, 0, 50].map(Duration::from_millis);
        let writers = groups
            .iter()
            .zip(paces)
            .map(|(group, pace)| write(&system, &ana, (group.as_str(), pace), &enough));
        futures::future::join_all(writers).await
    };
    let following = async {
        let cut = followers
            .iter_mut()
            .enumerate()
            .map(async |(number, follower)| {
                for round in 0..CUTS {
                    for _ in 0..fastrand::usize(1..6) {
                        follower.next().await;
                    }
                    follower.cut();
                    if (number, round) == (0, CUTS / 2) {
                        send(system.up.process("nats-server").unwrap(), Signal::KILL);
                    }
                }
            });
        futures::future::join_all(cut).await;
        enough.store(true, Ordering::Relaxed);
    };
    let spoiling = letters::spoil(&system, &enough);
    let (written, (), ()) = futures::join!(writing, spoiling, following);
    assert!(written.iter().all(|last| last.sequence > 0), "{written:?}");

    // The log as any client reads it is what has to have been shown.
    for (group, end) in [(&groups[0], "READ"), (&groups[3], "FAILED")] {
        let last = text(group, "the last one");
        let last = system.posted(&ana, "/v1/messages", &last, 202).await;
        let id = last["message_id"].as_str().unwrap();
        let path = format!("/v1/conversations/{group}/messages/{id}");
        let read = async || system.rest(&ana, &path).await.body["status"].clone();
        crate::journeys::until(end, read, |status| *status == end).await;
    }
    everything_was_shown(&system, &groups, &mut followers).await;
}

/// What stands on the log is what they were shown, once they have taken all of it: nothing is missing, nothing twice.
pub async fn everything_was_shown(
    system: &System,
    groups: &[String],
    followers: &mut [Follower<'_>],
) {
    let expected = on_the_log(system, groups).await;
    for follower in followers {
        if matches!(follower.way, Way::DeadLetters) {
            letters::all_were_told(system, follower).await;
            continue;
        }
        let watched: Vec<_> = match follower_of(follower) {
            Some(group) => vec![group],
            None => groups.iter().map(String::as_str).collect(),
        };
        for group in watched {
            let wanted = &expected[group];
            while !follower.has(group, wanted.last().unwrap().sequence) {
                follower.next().await;
            }
            // Without what was there when they began: the conversation's own start.
            assert_eq!(follower.shown[group], wanted[1..], "{group}");
        }
    }
}

fn follower_of<'a>(follower: &Follower<'a>) -> Option<&'a str> {
    match follower.way {
        Way::Conversation(group) | Way::SseOf(group) => Some(group),
        Way::Mine | Way::Sse | Way::DeadLetters => None,
    }
}

/// Writes until it is enough, one after the other; where the last one stands.
pub async fn write(
    system: &System,
    token: &str,
    (group, pace): (&str, Duration),
    enough: &AtomicBool,
) -> Position {
    let mut last = None;
    while !enough.load(Ordering::Relaxed) {
        tokio::time::sleep(pace).await;
        let message = text(group, "again");
        loop {
            let answer = system.post(token, "/v1/messages", &message).await;
            if answer.status == 202 {
                last = answer.body["position"].as_str().map(str::to_owned);
                break;
            }
            // The broker was away: the same message once more.
            assert_eq!(answer.status, 503, "{}", answer.body);
        }
    }
    last.unwrap().parse().unwrap()
}

/// Where everything about these conversations stands.
async fn on_the_log(system: &System, groups: &[String]) -> Shown {
    let mut found = Shown::new();
    for (position, stored) in placed(system).await {
        let about = groups
            .iter()
            .find(|group| stored.subject.contains(group.as_str()));
        if let Some(group) = about {
            found.entry(group.clone()).or_default().push(position);
        }
    }
    found
}

/// Everything on the event streams, and where it stands.
pub async fn placed(system: &System) -> Vec<(Position, Stored)> {
    let mut sequences = BTreeMap::<String, u64>::new();
    let mut all = Vec::new();
    for stored in system.log().await {
        let partition = stored.token(2).to_owned();
        let sequence = sequences.entry(partition.clone()).or_default();
        *sequence += 1;
        let position = format!("{partition}-{sequence}").parse().unwrap();
        all.push((position, stored));
    }
    all
}
