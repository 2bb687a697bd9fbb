//! A log that only a part of is there, or that was made when streams were still compressed.

use async_nats::jetstream::stream::Compression;
use chat4all_nats::backup::RESTORING;
use tokio::task::block_in_place;

use super::said::{doctor, on};
use crate::support::log::one_node;

#[tokio::test(flavor = "multi_thread")]
async fn half_a_restore_is_named_with_the_command_that_ends_it() {
    let node = one_node().await;
    let variables = on(node.nats.url(), node.nats.monitor_url());
    let areas = ["--only", "log", "--only", "readers"];
    let said = block_in_place(|| doctor(&variables, &areas));
    assert!(said.wrong("log").is_empty() && said.looked_at("readers"));

    // As a restore leaves it that was killed in its last step.
    let js = node.log.jetstream();
    let stream = js.get_stream("EVT-03").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    let backup = "the-id-of-a-backup".to_owned();
    config.metadata.insert(RESTORING.to_owned(), backup);
    js.update_stream(config).await.unwrap();
    let said = block_in_place(|| doctor(&variables, &areas));
    said.has(
        "wrong",
        "log",
        "stream EVT-03 is from a restore that is not complete",
        "`chat4all restore DIR` with the same backup",
    );
    said.has("wrong", "log", "(the-id-of-a-backup)", "chat4all restore");
    assert!(!said.looked_at("readers"), "{:#}", said.answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_compressed_is_named_with_what_ends_it() {
    let node = one_node().await;
    let variables = on(node.nats.url(), node.nats.monitor_url());
    let js = node.log.jetstream();
    let stream = js.get_stream("EVT-05").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.compression = Some(Compression::S2);
    js.update_stream(config).await.unwrap();
    let said = block_in_place(|| doctor(&variables, &["--only", "log"]));
    said.has(
        "wrong",
        "log",
        "EVT-05 is compressed (s2)",
        "`nats stream edit EVT-05 --compression none`, then restart the nodes",
    );
    assert_eq!(said.wrong("log").len(), 1, "{:#}", said.answer);
}
