//! Everything is made once; what an operator changed is told and left alone; what can never change refuses to start.

use std::slice;

use async_nats::jetstream;
use async_nats::jetstream::stream::{Compression, Config};
use chat4all_domain::PartitionCount;
use chat4all_nats::streams::{self, Drift, Error, Layout};
use chat4all_nats::{Client, Log, log::Error as LogError};

use crate::support::log::{EmptyNode, client, empty_node, layout};

struct Empty {
    _node: EmptyNode,
    client: Client,
    js: jetstream::Context,
}

async fn empty() -> Empty {
    let node = empty_node().await;
    let client = client(&node.nats.url(), "provisioning").await;
    let js = Log::context(&client);
    Empty {
        _node: node,
        client,
        js,
    }
}

fn partitions(count: u8) -> Layout {
    Layout {
        partitions: PartitionCount::new(count).unwrap(),
        ..layout(1)
    }
}

#[tokio::test]
async fn a_fresh_broker_gets_everything_once() {
    let broker = empty().await;
    let first = streams::provision(&broker.js, &layout(1)).await.unwrap();
    let wanted = [
        "EVT-00",
        "EVT-01",
        "EVT-02",
        "EVT-03",
        "EVT-04",
        "EVT-05",
        "EVT-06",
        "EVT-07",
        "KV_LEASES",
        "INBOUND",
        "PARKED",
        "KV_PROVIDER_REFS",
        "KV_LANES",
        "KV_CHANNEL_STATE",
        "KV_REDRIVES",
    ];
    assert_eq!(
        (first.created, first.drift),
        (wanted.map(str::to_owned).to_vec(), vec![])
    );

    let again = streams::provision(&broker.js, &layout(1)).await.unwrap();
    assert_eq!((again.created, again.drift), (vec![], vec![]));

    let stream = broker.js.get_stream("EVT-03").await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!(
        config.description.as_deref(),
        Some("Chat4All events, partition 03 of 8: the truth; never delete or purge")
    );
    let metadata = |key: &str| config.metadata.get(key).map(String::as_str);
    assert_eq!(metadata("chat4all.partitions"), Some("8"));
    assert_eq!(metadata("chat4all.partition"), Some("03"));
    assert_eq!(metadata("chat4all.hash"), Some("fnv1a-32"));
}

#[tokio::test]
async fn a_log_keeps_what_was_stored_whatever_is_asked_of_the_broker() {
    let broker = empty().await;
    streams::provision(&broker.js, &layout(1)).await.unwrap();
    let stream = broker.js.get_stream("EVT-00").await.unwrap();
    let subject = "chat.evt.00.conversation.x";
    let sequence = broker
        .js
        .publish(subject, "kept".into())
        .await
        .unwrap()
        .await
        .unwrap()
        .sequence;
    assert!(stream.delete_message(sequence).await.is_err());
    assert!(stream.purge().await.is_err());
    let kept = stream.get_raw_message(sequence).await.unwrap();
    assert_eq!(kept.payload, "kept");
}

#[tokio::test]
async fn what_was_changed_by_hand_is_told_and_left_alone() {
    let broker = empty().await;
    // One was made by hand, without the protection that ours have.
    let mut by_hand = streams::definitions(&layout(1)).remove(5);
    by_hand.deny_purge = false;
    broker.js.create_stream(by_hand).await.unwrap();
    let report = streams::provision(&broker.js, &layout(1)).await.unwrap();
    assert_eq!(
        report.created.len(),
        streams::definitions(&layout(1)).len() - 1
    );
    let purge = drift("EVT-05", "deny_purge", "true", "false");
    assert_eq!(report.drift, vec![purge.clone()]);

    // Another one was given more room.
    let stream = broker.js.get_stream("EVT-03").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = 1 << 28;
    broker.js.update_stream(&config).await.unwrap();
    let report = streams::provision(&broker.js, &layout(1)).await.unwrap();
    assert!(report.created.is_empty());
    let room = drift("EVT-03", "max_bytes", "134217728", "268435456");
    assert_eq!(report.drift, vec![room, purge]);

    let after = broker.js.get_stream("EVT-03").await.unwrap();
    assert_eq!(after.cached_info().config, config, "left alone");
    Log::open(broker.client, &layout(1))
        .await
        .expect("a drift stops nobody");
}

#[tokio::test]
async fn a_bucket_of_states_made_before_it_took_times_to_live_is_told() {
    let broker = empty().await;
    let wanted = streams::definitions(&layout(1));
    let states = wanted.iter().find(|one| one.name == "KV_CHANNEL_STATE");
    let states = states.expect("there is such a bucket");
    let mut old = states.clone();
    old.allow_message_ttl = false;
    let told = drift("KV_CHANNEL_STATE", "allow_msg_ttl", "true", "false");
    is_told_and_can_be_mended(&broker, old, states, told).await;
}

#[tokio::test]
async fn a_stream_that_is_compressed_is_told_and_can_be_mended() {
    let broker = empty().await;
    let wanted = streams::definitions(&layout(1)).remove(2);
    let mut old = wanted.clone();
    old.compression = Some(Compression::S2);
    let told = drift("EVT-02", "compression", "none", "s2");
    is_told_and_can_be_mended(&broker, old, &wanted, told).await;
    for name in [streams::INBOUND, streams::PARKED] {
        let stream = broker.js.get_stream(name).await.unwrap();
        let compression = &stream.cached_info().config.compression;
        assert!(
            !matches!(compression, Some(Compression::S2)),
            "{name} is compressed"
        );
    }
}

/// `old` is there before anything is provisioned: it is left alone and told, until somebody makes it `wanted`.
async fn is_told_and_can_be_mended(broker: &Empty, old: Config, wanted: &Config, told: Drift) {
    broker.js.create_stream(old).await.unwrap();
    let report = streams::provision(&broker.js, &layout(1)).await.unwrap();
    assert_eq!(report.drift, slice::from_ref(&told));
    let examined = streams::examine(&broker.js, &layout(1)).await.unwrap();
    assert_eq!(examined.drift, [told], "what the doctor looks at");
    // What mends it: the broker takes the setting for a stream that is there.
    broker.js.update_stream(wanted).await.unwrap();
    let report = streams::provision(&broker.js, &layout(1)).await.unwrap();
    assert_eq!(report.drift, []);
}

fn drift(stream: &str, setting: &'static str, wanted: &str, found: &str) -> Drift {
    Drift {
        stream: stream.to_owned(),
        setting,
        wanted: wanted.to_owned(),
        found: found.to_owned(),
    }
}

#[tokio::test]
async fn another_number_of_partitions_refuses_to_start_and_says_what_to_set() {
    let broker = empty().await;
    streams::provision(&broker.js, &layout(1)).await.unwrap();
    for count in [4, 7, 9, 16] {
        let error = streams::provision(&broker.js, &partitions(count))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Incompatible { .. }), "{error:?}");
        let says = format!(
            "stream EVT-00 was made for chat4all.partitions = 8, this configuration says {count}; set it back: \
             sequences depend on it and it cannot be changed once events exist"
        );
        assert_eq!(error.to_string(), says);
        let opened = Log::open(broker.client.clone(), &partitions(count)).await;
        assert!(
            matches!(opened, Err(LogError::Open(Error::Incompatible { .. }))),
            "{opened:?}"
        );
    }
    let ninth = broker.js.get_stream("EVT-08").await;
    assert!(ninth.is_err(), "nothing was made on the way");
}

#[tokio::test]
async fn a_log_whose_first_streams_are_gone_is_still_not_one_of_fewer_partitions() {
    let broker = empty().await;
    // Of eight, only the last four are left: four new ones would fit into the gap, and hash ids to other places.
    for config in streams::definitions(&layout(1)).drain(..8).skip(4) {
        broker.js.create_stream(config).await.unwrap();
    }
    let error = streams::provision(&broker.js, &partitions(4))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Incompatible { stream, found, .. } if stream == "EVT-04" && found == "8"),
        "{error}"
    );
}
