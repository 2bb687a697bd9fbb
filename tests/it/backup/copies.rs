//! What comes back is what was there, to the byte.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream::Compression};
use chat4all_cli::embedded::{ClusterOptions, NatsCluster, temp_dir};
use chat4all_domain::Timestamp;
use chat4all_nats::backup::{self, RESTORING};
use serde_json::Value;

use super::stage::{backup, chat4all, content, done, js, restore, streams};
use crate::projector::story::{Story, conversation, identity_of};
use crate::support::log::{client, empty_node, layout, one_node, opened, provisioned};

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_stream_is_the_old_one_message_by_message() {
    let place = temp_dir().unwrap();
    let dir = place.path().join("b");
    let (old, new) = tokio::join!(empty_node(), empty_node());
    // As all streams once were made. One of its blocks is full, and so is compressed.
    let definitions = chat4all_nats::streams::definitions(&layout(1));
    let inbound = definitions.into_iter().find(|one| one.name == "INBOUND");
    let mut inbound = inbound.expect("there is such a stream");
    inbound.compression = Some(Compression::S2);
    let client = client(&old.nats.url(), "older").await;
    jetstream::new(client).create_stream(inbound).await.unwrap();
    provisioned(&old.nats.url(), &layout(1)).await;
    let old = old.opened().await;
    let story = Story::new(&old.log);
    for number in 1..=12 {
        story.whole_journeys(number, 3).await;
    }
    let js_old = js(&old.log);
    for number in 0..60_u32 {
        let mut headers = HeaderMap::new();
        headers.insert("reason", "a test");
        let body = format!("parked {number}").into();
        let parked = js_old.publish_with_headers("chat.parked.whatsapp.item", headers, body);
        parked.await.unwrap().await.unwrap();
        let body = vec![u8::try_from(number).unwrap(); 200_000].into();
        let inbound = js_old.publish("chat.in.whatsapp", body).await.unwrap();
        inbound.await.unwrap();
    }
    let parked = js_old.get_stream("PARKED").await.unwrap();
    // Holes at the beginning, in the middle and at the end.
    for gone in [1, 2, 20, 21, 40, 60] {
        parked.delete_message(gone).await.unwrap();
    }
    let mut acks = vec![];
    for number in 0..2_000 {
        let key = format!("$KV.LANES.whatsapp.{}", number % 7);
        acks.push(
            js_old
                .publish(key, format!("{number}").into())
                .await
                .unwrap(),
        );
        let key = format!("$KV.PROVIDER_REFS.whatsapp.main.{number}");
        acks.push(js_old.publish(key, "x".into()).await.unwrap());
    }
    // What nobody could make anew.
    let of_operators = [
        ("CHANNEL_STATE", "whatsapp.whatsapp-main", "paused"),
        ("REDRIVES", "a-job.definition", "what anna selected"),
    ];
    for (bucket, key, value) in of_operators {
        let key = format!("$KV.{bucket}.{key}");
        acks.push(js_old.publish(key, value.into()).await.unwrap());
    }
    // The last acknowledgement of a bucket that does not wait for its disk, and the copy at once.
    for ack in acks {
        ack.await.unwrap();
    }
    let said = done(&mut backup(&old.nats.url(), &dir));
    assert!(said.contains("complete"), "{said}");

    let said = done(chat4all("nats://127.0.0.1:1", &["backup", "--verify"]).arg(&dir));
    assert!(said.contains("intact"), "{said}");
    let mut without_us = Command::new("sha256sum");
    let sums = without_us.args(["-c", "--quiet", "SHA256SUMS"]);
    let sums = sums.current_dir(&dir).output().unwrap();
    assert!(sums.status.success(), "{sums:?}");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&dir) & 0o777, 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path) & 0o777, 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        let secret = super::stage::IDS.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }

    let said = done(restore(&new.nats.url(), &dir).arg("--json"));
    let said: Value = serde_json::from_str(&said).unwrap();
    let wanted = backup::contents(&layout(1));
    for bucket in ["KV_CHANNEL_STATE", "KV_REDRIVES"] {
        assert!(wanted.iter().any(|name| name == bucket), "no {bucket}");
    }
    assert_eq!(said["restored"].as_array().unwrap().len(), wanted.len());
    let new = new.opened().await;
    let js_new = js(&new.log);
    assert_eq!(streams(&js_new).await, streams(&js_old).await);
    for stream in &wanted {
        let (old, new) = (
            content(&js_old, stream).await,
            content(&js_new, stream).await,
        );
        assert_eq!(new, old, "{stream}");
        let config = js_new.get_stream(stream).await.unwrap();
        let config = &config.cached_info().config;
        assert!(!config.metadata.contains_key(RESTORING), "{stream}");
        let compressed = matches!(config.compression, Some(Compression::S2));
        assert!(!compressed, "{stream}");
    }
    for (bucket, key, value) in of_operators {
        let bucket = js_new.get_key_value(bucket).await.unwrap();
        let found = bucket.get(key).await.unwrap();
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key}");
    }
    // And writing goes on with the revisions that were: what exists is found at its place.
    let begun = story.start(conversation(1), 1, 1).await;
    let story = Story::new(&new.log);
    assert_eq!(story.start(conversation(1), 1, 1).await, begun);
    story.whole_journeys(99, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_moves_from_one_node_into_a_cluster_and_back() {
    let place = temp_dir().unwrap();
    let (there, back) = (place.path().join("there"), place.path().join("back"));
    let (old, new) = tokio::join!(one_node(), empty_node());
    let cluster = NatsCluster::start(ClusterOptions::in_dir(place.path().join("nats")));
    let cluster = cluster.await.unwrap();
    let story = Story::new(&old.log);
    for number in 1..=6 {
        story.whole_journeys(number, 1).await;
    }
    let wanted = backup::contents(&layout(1));
    let js_old = js(&old.log);
    done(&mut backup(&old.nats.url(), &there));
    let replicated = ("CHAT4ALL_NATS__REPLICAS", "3");
    done(restore(&cluster.url(), &there).env(replicated.0, replicated.1));
    let in_cluster = opened(&cluster.url(), "test", &layout(3)).await;
    for stream in &wanted {
        let js_new = js(&in_cluster);
        let config = js_new.get_stream(stream).await.unwrap();
        assert_eq!(config.cached_info().config.num_replicas, 3, "{stream}");
        let (old, new) = (
            content(&js_old, stream).await,
            content(&js_new, stream).await,
        );
        assert_eq!(new, old, "{stream}");
    }
    done(backup(&cluster.url(), &back).env(replicated.0, replicated.1));
    done(&mut restore(&new.nats.url(), &back));
    let new = new.opened().await;
    for stream in &wanted {
        let (old, new) = (
            content(&js_old, stream).await,
            content(&js(&new.log), stream).await,
        );
        assert_eq!(new, old, "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_can_be_backed_up_and_restored() {
    let place = temp_dir().unwrap();
    let dir = place.path().join("b");
    let (old, new) = tokio::join!(one_node(), empty_node());
    done(&mut backup(&old.nats.url(), &dir));
    done(&mut restore(&new.nats.url(), &dir));
    let new = new.opened().await;
    for stream in backup::contents(&layout(1)) {
        assert_eq!(content(&js(&new.log), &stream).await.0, 0, "{stream}");
    }
    Story::new(&new.log).whole_journeys(1, 1).await;
    assert!(done(&mut chat4all(&new.nats.url(), &["log"])).contains("MessageAccepted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_a_conversation_names_and_the_copy_missed_is_met_again() {
    let node = one_node().await;
    let story = Story::new(&node.log);
    // As if the identities' partitions had been copied before they came.
    story.start(conversation(1), 1, 2).await.unwrap();
    story.meet(0, Some("Anna")).await.unwrap();
    let since = node.log.partitions().all().map(|partition| (partition, 0));
    let since: BTreeMap<_, _> = since.collect();
    let now = Timestamp::from_unix_ms(1);
    let again = || async {
        let client = node.log.client();
        let met = backup::identities(client, &layout(1), "b", &since, now).await;
        met.unwrap()
    };
    assert_eq!((again().await, again().await), (1, 0));
    let subject = chat4all_nats::subject::of(node.log.partitions(), &identity_of(1));
    let stream = node.log.stream(node.log.partition_of(&identity_of(1)));
    let met = stream.get_last_raw_message_by_subject(&subject).await;
    let met: Value = serde_json::from_slice(&met.unwrap().payload).unwrap();
    assert_eq!(met["events"][0]["type"], "IdentityRegistered");
    assert_eq!(met["events"][0]["personal"]["address"], "4915100000001");
}
