//! What an accept costs, what it stores, and what it leaves behind for those who look.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::stack::{Api, Broker};
use super::{id, message, user};

#[tokio::test(flavor = "multi_thread")]
async fn an_accept_of_a_known_conversation_is_one_request_to_the_broker() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let body = json!({"channel": "whatsapp", "address": "+4915112345678"});
    let added = api
        .post(
            "ana",
            &format!("/v1/conversations/{group}/participants"),
            &body,
        )
        .expect(200)
        .await;
    api.reaches(&id(&added.body, "position")).await;
    // Others talk on the connection too: the followers' pulls, which are counted at rest.
    let requests = || {
        api.client
            .statistics()
            .out_messages
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let mut costs = Vec::new();
    for n in 0..40 {
        let before = requests();
        api.post("ana", "/v1/messages", &message(&group, "hello"))
            .key(&n.to_string())
            .expect(202)
            .await;
        costs.push(requests() - before);
    }
    let once = costs.iter().filter(|cost| **cost == 1).count();
    assert!(once >= 35, "requests per accept: {costs:?}");
    assert!(costs.iter().all(|cost| *cost >= 1), "{costs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_text_is_found_unchanged_on_the_log() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let jetstream = async_nats::jetstream::new(api.client.clone());
    let runtime = tokio::runtime::Handle::current();
    let said = |text: String| {
        runtime.block_on(async {
            let sent = api
                .post("ana", "/v1/messages", &message(&group, &text))
                .expect(202)
                .await;
            let position = id(&sent.body, "position");
            let (partition, sequence) = position.split_once('-').unwrap();
            let stream = jetstream
                .get_stream_no_info(format!("EVT-{partition}"))
                .await
                .unwrap();
            let stored = stream
                .get_raw_message(sequence.parse().unwrap())
                .await
                .unwrap();
            let envelope: serde_json::Value = serde_json::from_slice(&stored.payload).unwrap();
            envelope["events"][0]["personal"]["content"]["text"]
                .as_str()
                .unwrap()
                .to_owned()
        })
    };
    tokio::task::block_in_place(|| {
        let texts = prop_oneof![
            any::<String>(),
            "\\PC{1,300}",
            // Control characters, both directions of writing, emoji with joiners, a byte order mark.
            "[\u{1}-\u{1f}\u{202e}\u{200d}\u{feff}\u{1f469}\u{1f3fd}\u{10ffff}\"\\\\ a]{1,80}",
        ];
        let texts = texts.prop_filter("blank and U+0000 are refused", |text: &String| {
            !text.contains('\0') && !text.trim().is_empty()
        });
        let config = Config {
            cases: 300,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config)
            .run(&texts, |text| {
                prop_assert_eq!(said(text.clone()), text);
                Ok(())
            })
            .unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_text_fits_even_where_json_writes_six_bytes_for_each_character() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let text = format!("a{}", "\u{1}".repeat(32_767));
    api.post("ana", "/v1/messages", &message(&group, &text))
        .expect(202)
        .await;
    let stored = broker.events("MessageAccepted").await;
    assert_eq!(stored[0]["personal"]["content"]["text"], *text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_is_one_append_and_only_moves_forward() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let mut sent = Vec::new();
    for n in 0..5 {
        let answer = api
            .post("ana", "/v1/messages", &message(&group, &n.to_string()))
            .expect(202)
            .await;
        sent.push(answer.body["message_id"].clone());
    }
    let path = format!("/v1/conversations/{group}/read");
    let other = Api::start(&broker).await;
    let read = api
        .post("ben", &path, &json!({"up_to": sent[3]}))
        .expect(200)
        .await;
    let behind = other
        .post("ben", &path, &json!({"up_to": sent[1]}))
        .expect(200)
        .await;
    assert_eq!(behind.body["position"], read.body["position"]);
    let again = api
        .post("ben", &path, &json!({"up_to": sent[3]}))
        .expect(200)
        .await;
    assert_eq!(again.body, read.body);
    let marks = broker.events("ReadUpTo").await;
    assert_eq!(marks.len(), 1);
    assert_eq!(marks[0]["facts"]["message"], sent[3]);
    let nowhere = api
        .post("ben", &path, &json!({"up_to": super::fresh()}))
        .expect(422)
        .await;
    assert_eq!(nowhere.body["errors"][0]["pointer"], "/up_to");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_request_to_the_log_and_back() {
    let config = chat4all_service::Config::load(&super::stack::sources())
        .unwrap()
        .config;
    let _guard = chat4all_service::telemetry::init(&config.telemetry, "command-api").unwrap();
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let call = api
        .post("ana", "/v1/messages", &message(&group, "hello"))
        .header("traceparent", &traceparent);
    let sent = call.expect(202).await;
    assert_eq!(sent.trace_id.as_deref(), Some(trace));
    let log = broker.log().await;
    let stored = log
        .iter()
        .find(|stored| stored.subject.contains(".message."))
        .unwrap();
    let stored = stored.traceparent.as_deref().unwrap();
    assert!(stored.starts_with(&format!("00-{trace}-")), "{stored}");
    assert_ne!(stored, traceparent, "the request has a span of its own");
    let refused = api
        .post("eve", "/v1/messages", &message(&group, "hi"))
        .header("traceparent", &traceparent);
    assert_eq!(refused.expect(404).await.body["trace_id"], trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_counted_by_outcome() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    for _ in 0..2 {
        api.post("ana", "/v1/messages", &message(&group, "hello"))
            .key("k")
            .expect(202)
            .await;
    }
    let page = api.call(reqwest::Method::GET, "/metrics").expect(200).await;
    let page = page.body.as_str().unwrap().to_owned();
    for line in [
        r#"chat4all_commands_total{command="AcceptMessage",outcome="appended"} 1"#,
        r#"chat4all_commands_total{command="AcceptMessage",outcome="unchanged"} 1"#,
        r#"chat4all_command_append_duration_seconds_count{command="AcceptMessage"} 1"#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_too_many_races_is_told_so_and_counted() {
    let broker = Broker::start().await;
    let apis = join_all((0..8).map(|_| Api::start(&broker))).await;
    let group = apis[0].group(&["ana", "ben"]).await;
    let path = format!("/v1/conversations/{group}/participants");
    // Each instance adds one after the other, and all of them at once, until one has lost six times in a row: who has won
    // knows the state and begins with a lead.
    let lost = AtomicBool::new(false);
    let adds = apis.iter().enumerate().map(async |(i, api)| {
        let mut added = 0;
        for number in 0..60 {
            let somebody = json!({"user_id": user(&format!("user {number} {i}"))});
            let answer = api.post("ana", &path, &somebody).send().await;
            match answer.status.as_u16() {
                200 => added += 1,
                409 => {
                    assert_eq!(answer.body["code"], "conflict", "{}", answer.body);
                    lost.store(true, Ordering::SeqCst);
                    return (added, 1);
                }
                other => panic!("{other}: {}", answer.body),
            }
            if lost.load(Ordering::SeqCst) {
                break;
            }
        }
        (added, 0)
    });
    let sum = |(added, refused), (more, others)| (added + more, refused + others);
    let (added, refused) = join_all(adds).await.into_iter().fold((0, 0), sum);
    assert!(refused > 0, "{added} were added, and nobody lost six times");
    let joined = broker.events("ParticipantJoined").await.len();
    assert_eq!(joined, added, "who was refused is not there");
    let counted = join_all(apis.iter().map(async |api| {
        let page = api.call(reqwest::Method::GET, "/metrics").expect(200).await;
        let page = page.body.as_str().unwrap().to_owned();
        let lines = page.lines().filter(|line| {
            line.starts_with("chat4all_commands_total{") && line.contains(r#"outcome="conflict""#)
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum::<usize>()
    }));
    assert_eq!(counted.await.iter().sum::<usize>(), refused);
}
