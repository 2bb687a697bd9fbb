//! Reading `PARKED` in both directions: the newest first, however many holes there are, and without the raw items in memory.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Clock};

use async_nats::HeaderMap;
use chat4all_domain::{AccountId, ChannelKind};
use chat4all_nats::parked::{self, Item, Parked, Part, What};
use chat4all_nats::{Log, ReadError};
use futures::future::join_all;
use tokio::time::Instant;

use crate::support::log::{OneNode, client, one_node};

const KIND: ChannelKind = ChannelKind::WhatsApp;

pub fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

/// Puts an item aside as the bridges do; its sequence.
pub async fn park(log: &Log, subject: String, account: &str, reason: &str, raw: &[u8]) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert(parked::REASON, reason);
    headers.insert(parked::ACCOUNT, account);
    let js = log.jetstream();
    let raw = raw.to_vec().into();
    let acked = js
        .publish_with_headers(subject, headers, raw)
        .await
        .unwrap();
    acked.await.unwrap().sequence
}

pub async fn park_item(log: &Log, name: &str) -> u64 {
    let subject = parked::item_subject(KIND, &account(name));
    park(log, subject, name, "a message that cannot be read", b"{}").await
}

async fn park_receipt(log: &Log, name: &str, reference: &str) -> u64 {
    let subject = parked::receipt_subject(KIND, &account(name), reference);
    park(log, subject, name, "unknown_message", b"{}").await
}

async fn reader(node: &OneNode) -> Parked {
    Parked::new(client(&node.nats.url(), "reader").await)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn sequences(items: &[Item]) -> Vec<u64> {
    items.iter().map(|item| item.sequence).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_exact_whatever_was_deleted() {
    let seed = crate::support::seed("parts_are_exact_whatever_was_deleted");
    let mut random = fastrand::Rng::with_seed(seed);
    let node = one_node().await;
    let connection = client(&node.nats.url(), "reader").await;
    let parked = Parked::new(connection.clone());
    assert_eq!(
        parked.newest(&Part::default(), 5, soon()).await.unwrap(),
        []
    );
    assert_eq!(
        parked.oldest(&Part::default(), 5, soon()).await.unwrap(),
        []
    );

    // Islands of items in a sea of holes, as receipts leave them that were parked and then placed.
    let number = 3_000_u64;
    let names = ["one", "other"];
    for begin in (0..number).step_by(100) {
        join_all((begin..begin + 100).map(|n| {
            let log = &node.log;
            async move {
                match n % 3 {
                    0 => park_item(log, names[0]).await,
                    1 => park_receipt(log, names[0], "0a").await,
                    _ => park_receipt(log, names[1], "0b").await,
                }
            }
        }))
        .await;
    }
    let stream = node.log.jetstream().get_stream("PARKED").await.unwrap();
    let kept = |n: u64| (n % 1_000 < 15) || n == 1_777 || n == number;
    for n in (1..=number).filter(|n| !kept(*n)) {
        stream.delete_message(n).await.unwrap();
    }
    let all = parked
        .oldest(&Part::default(), 5_000, soon())
        .await
        .unwrap();
    let expected: Vec<u64> = (1..=number).filter(|n| kept(*n)).collect();
    assert_eq!(sequences(&all), expected);

    for _ in 0..150 {
        let name = random
            .choice([None, Some("one"), Some("other"), Some("nobody")])
            .flatten();
        let only = name.map(account);
        let bound = |random: &mut fastrand::Rng| random.bool().then(|| random.u64(0..number + 5));
        let part = Part {
            account: only.as_ref(),
            above: bound(&mut random),
            below: bound(&mut random),
        };
        let size = random.usize(1..30);
        let mut within: Vec<Item> = all.clone();
        within.retain(|item| {
            name.is_none_or(|name| item.account == Some(account(name)))
                && part.above.is_none_or(|above| item.sequence > above)
                && part.below.is_none_or(|below| item.sequence < below)
        });
        let oldest = parked.oldest(&part, size, soon()).await.unwrap();
        let expected: Vec<Item> = within.iter().take(size).cloned().collect();
        assert_eq!(oldest, expected, "oldest {size} of {part:?}");
        let newest = parked.newest(&part, size, soon()).await.unwrap();
        let expected: Vec<Item> = within.iter().rev().take(size).cloned().collect();
        assert_eq!(newest, expected, "newest {size} of {part:?}");
    }
    // However long the holes are: a search, not a walk.
    let sent = || connection.statistics().out_messages.load(Ordering::Relaxed);
    let before = sent();
    let newest = parked.newest(&Part::default(), 10, soon()).await.unwrap();
    assert_eq!(
        sequences(&newest),
        [
            3_000, 2_014, 2_013, 2_012, 2_011, 2_010, 2_009, 2_008, 2_007, 2_006
        ]
    );
    let requests = sent() - before;
    println!("10 items with a hole of 985 between them: {requests} requests");
    assert!(requests < 25, "{requests} requests");
    assert_eq!(
        parked.get(1_777, soon()).await.unwrap(),
        all.iter().find(|item| item.sequence == 1_777).cloned()
    );
    assert_eq!(parked.get(1_778, soon()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_is_shown_with_its_reason_and_without_what_it_says() {
    let node = one_node().await;
    let parked = reader(&node).await;
    let raw = b"{\"from\":\"4915112345678\",\"text\":\"my secret\"}";
    let subject = parked::item_subject(KIND, &account("main"));
    park(&node.log, subject, "main", "a message without an id", raw).await;
    park_receipt(&node.log, "main", "c0ffee").await;
    // Nobody of ours writes these two, and still they are shown.
    park(
        &node.log,
        "chat.parked.carrier-pigeon.item.coo".into(),
        "Coo!",
        &"x".repeat(500),
        b"coo",
    )
    .await;
    node.log
        .jetstream()
        .publish("chat.parked.whatsapp", "".into())
        .await
        .unwrap()
        .await
        .unwrap();
    let items = parked.oldest(&Part::default(), 10, soon()).await.unwrap();
    let shown: Vec<_> = items
        .iter()
        .map(|item| {
            (
                item.kind,
                item.account.as_ref().map(AccountId::as_str),
                item.reason.as_str(),
                &item.what,
                item.size_bytes,
            )
        })
        .collect();
    let receipt = What::Receipt {
        reference: "c0ffee".to_owned(),
    };
    assert_eq!(
        shown,
        [
            (
                Some(KIND),
                Some("main"),
                "a message without an id",
                &What::Item,
                raw.len()
            ),
            (Some(KIND), Some("main"), "unknown_message", &receipt, 2),
            (None, None, "x".repeat(200).as_str(), &What::Item, 3),
            (Some(KIND), None, "unknown", &What::Item, 0),
        ]
    );
    assert!(!format!("{items:?}").contains("secret"));
}

/// Each raw item may have megabytes; a page of them comes in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn large_items_are_read_all_the_same() {
    let node = one_node().await;
    let parked = reader(&node).await;
    let raw = vec![b'x'; 4 * 1024 * 1024];
    for _ in 0..12 {
        let subject = parked::item_subject(KIND, &account("main"));
        park(&node.log, subject, "main", "not a webhook call", &raw).await;
    }
    let newest = parked.newest(&Part::default(), 11, soon()).await.unwrap();
    assert_eq!(sequences(&newest), (2..=12).rev().collect::<Vec<_>>());
    assert!(newest.iter().all(|item| item.size_bytes == raw.len()));
    let oldest = parked.oldest(&Part::default(), 11, soon()).await.unwrap();
    assert_eq!(sequences(&oldest), (1..=11).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_or_hangs_is_said_in_time() {
    let mut node = one_node().await;
    let parked = reader(&node).await;
    park_item(&node.log, "main").await;
    let limit = || Instant::now() + Duration::from_secs(1);
    assert_eq!(
        parked
            .newest(&Part::default(), 5, limit())
            .await
            .unwrap()
            .len(),
        1
    );
    node.nats.suspend().await;
    let began = Clock::now();
    let hung = parked.newest(&Part::default(), 5, limit()).await;
    assert!(matches!(hung, Err(ReadError::Unanswered)), "{hung:?}");
    let hung = parked.oldest(&Part::default(), 5, limit()).await;
    assert!(matches!(hung, Err(ReadError::Unanswered)), "{hung:?}");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    node.nats.resume();
    node.nats.kill().await;
    let away = crate::bridges::stage::until(|| parked.get(1, limit()), Result::is_err).await;
    assert!(matches!(away, Err(ReadError::Unanswered)), "{away:?}");
    let began = Clock::now();
    parked
        .newest(&Part::default(), 5, limit())
        .await
        .unwrap_err();
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    node.nats.restart().await.unwrap();
    let back = crate::bridges::stage::until(|| parked.check(limit()), Result::is_ok).await;
    assert!(back.is_ok());
    assert_eq!(
        parked
            .newest(&Part::default(), 5, soon())
            .await
            .unwrap()
            .len(),
        1
    );
}
