//! Who follows many conversations and is more than 100,000 events behind is told to load anew; with one less they are shown all
//! that is for them, and so is at any distance who follows one conversation.

use chat4all_domain::Position;
use serde_json::{Value, json};

use super::alone::{QueryApi, operator};
use super::client::{Came, Socket};
use super::follower::{Follower, Shown, Way, of_mine};
use super::long_log::Writer;
use super::sight::DEAD_LETTERS;
use crate::support::log::relaxed_node;

/// In events of everybody. Source: docs/adr/0017-following-live.md.
const FURTHEST: u64 = 100_000;
/// So many that nobody is shown stand between two that somebody is.
const BETWEEN: u64 = 499;
/// Behind every so many gaps stands one that cannot be read.
const GAPS: usize = 20;
/// The lanes that are followed: the partitions, and for dead letters what was put aside, too.
const LANES: usize = 8;
const WHY: &str = "Too much has happened since this cursor: load anew what is shown, and follow without a cursor.";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_more_than_a_hundred_thousand_events_behind_loads_anew_and_who_is_not_is_shown_all()
{
    let node = relaxed_node().await;
    let writer = Writer::new(&node.log, node.nats.url()).await;
    let [long, short] = writer.conversations();
    let began = writer.start(long).await;
    // Few events in one partition, very many in another: what is missing counts in all of them together.
    let mut few = vec![writer.start(short).await];
    for _ in 0..5 {
        few.push(writer.say(short).await);
    }
    writer.pass(10).await;
    let before = writer.say(long).await;
    let (mut many, mut broken) = (Vec::new(), Vec::new());
    let mut left = FURTHEST - few.last().unwrap().sequence;
    while left > 0 {
        if many.len().is_multiple_of(GAPS) {
            broken.push(writer.spoil(long).await);
            left -= 1;
        }
        many.push(writer.say(long).await);
        left -= 1;
        let passed = left.min(BETWEEN);
        writer.pass(passed).await;
        left -= passed;
    }

    let api = QueryApi::start(&node.nats.url());
    let (token, id) = (operator(), long.to_string());
    let mut followers = Vec::new();
    for way in [
        Way::Mine,
        Way::Sse,
        Way::DeadLetters,
        Way::Conversation(&id),
        Way::SseOf(&id),
    ] {
        let mut follower = Follower::begin_at(&api.base, &token, way).await;
        follower.cut();
        follower.cursor = Some(match way {
            Way::Mine | Way::Sse => cursor(LANES, before),
            Way::DeadLetters => cursor(LANES + 1, before),
            // Further behind, of one conversation.
            Way::Conversation(_) | Way::SseOf(_) => began.to_string(),
        });
        followers.push(follower);
    }

    // One event more than one may be behind.
    let far = Position::new(before.partition, before.sequence - 1);
    let (mine, letters) = (cursor(LANES, far), cursor(LANES + 1, far));
    refused_on_a_socket(&api.base, &token, &of_mine(), &mine).await;
    refused_on_a_socket(&api.base, &token, DEAD_LETTERS, &letters).await;
    refused_as_events(&api.base, &token, &mine).await;

    // Just as far as one may be. What comes once they are taken in does not count.
    for follower in &mut followers {
        while follower.shown.is_empty() {
            follower.next().await;
        }
    }
    many.push(writer.say(long).await);
    broken.push(writer.spoil(long).await);
    assert!(many.last().unwrap().sequence - began.sequence > FURTHEST);
    let of_one = [&[before][..], &many[..]].concat();
    let of_one = Shown::from([(id.clone(), of_one)]);
    let of_all = Shown::from([(id.clone(), many), (short.to_string(), few)]);
    let letters = Shown::from([(id.clone(), broken)]);
    let taking = followers.iter_mut().map(async |follower| {
        let wanted = match follower.way {
            Way::Mine | Way::Sse => &of_all,
            Way::DeadLetters => &letters,
            Way::Conversation(_) | Way::SseOf(_) => &of_one,
        };
        while !follower.has_all(wanted) {
            follower.next().await;
        }
        assert_eq!(follower.shown, *wanted, "{:?}", follower.way);
        assert_eq!(follower.resyncs, 0, "{:?}", follower.way);
    });
    futures::future::join_all(taking).await;
}

/// The cursor of one who has come as far as `place` in its partition, and nowhere in the others.
fn cursor(lanes: usize, place: Position) -> String {
    let mut sequences = vec![0; lanes];
    sequences[usize::from(place.partition.number())] = place.sequence;
    let sequences: Vec<_> = sequences.iter().map(u64::to_string).collect();
    sequences.join(".")
}

async fn refused_on_a_socket(base: &str, token: &str, query: &str, after: &str) {
    let mut socket = Socket::graphql_at(base, token).await.unwrap();
    socket.subscribe("s", query, json!({"after": after})).await;
    let Came::Frame(frame) = socket.next().await else {
        panic!("ended");
    };
    assert_eq!(frame["type"], "error", "{frame}");
    let said = &frame["payload"][0];
    assert_eq!(said["message"], WHY, "{frame}");
    assert_eq!(said["extensions"]["code"], "resync", "{frame}");
    // There is nowhere to resume from.
    assert_eq!(said["extensions"]["cursor"], Value::Null, "{frame}");
    // As it says.
    socket.subscribe("s", query, json!({})).await;
    assert!(socket.update().await["cursor"].is_string());
}

async fn refused_as_events(base: &str, token: &str, after: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{base}/v1/events");
    for request in [
        client.get(&url).header("Last-Event-ID", after),
        client.get(format!("{url}?after={after}")),
    ] {
        let answer = request.bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 410);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let said: Value = answer.json().await.unwrap();
        assert_eq!(said["code"], "resync", "{said}");
        assert_eq!(said["detail"], WHY, "{said}");
        assert_eq!(said["cursor"], Value::Null, "{said}");
    }
}
