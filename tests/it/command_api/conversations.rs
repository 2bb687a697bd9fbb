//! Direct conversations: got or created, by whoever comes first.

use chat4all_domain::identity::Command;
use chat4all_domain::{Address, ChannelKind, Timestamp};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_nats::{Context, Retry};
use chat4all_service::clock;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::stack::{Api, Broker, ID_SECRET};
use super::{id, to_phone, user};

fn direct() -> Value {
    json!({"kind": "direct", "participants": [{"channel": "whatsapp", "address": "+4915112345678"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_make_one_direct_conversation() {
    let broker = Broker::start().await;
    let apis = [Api::start(&broker).await, Api::start(&broker).await];
    let subs = ["ana", "ben", "carl", "dora"];
    let calls = (0..40).map(|n| {
        apis[n % 2]
            .post(subs[n % 4], "/v1/conversations", &direct())
            .send()
    });
    let answers = join_all(calls).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let found = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((created, found), (1, 39), "{answers:?}");
    let first = id(&answers[0].body, "conversation_id");
    assert!(
        answers
            .iter()
            .all(|answer| answer.body["conversation_id"] == *first)
    );
    assert_eq!(broker.events("ConversationStarted").await.len(), 1);
    assert_eq!(broker.events("IdentityRegistered").await.len(), 1);
    assert_eq!(
        broker.events("ParticipantJoined").await.len(),
        3,
        "who came later joined"
    );
    // Afterwards everybody gets the same: the address and the four.
    let answer = apis[0]
        .post("ana", "/v1/conversations", &direct())
        .expect(200)
        .await;
    assert_eq!(answer.body["participants"].as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_share_one_direct_conversation_whoever_starts_it() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let with = |sub: &str| json!({"kind": "direct", "participants": [{"user_id": user(sub)}]});
    let ana = api
        .post("ana", "/v1/conversations", &with("ben"))
        .expect(201)
        .await;
    let ben = api
        .post("ben", "/v1/conversations", &with("ana"))
        .expect(200)
        .await;
    assert_eq!(ana.body, ben.body);
    assert_eq!(ana.body["kind"], "direct");
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_to_an_address_makes_identity_conversation_and_message_in_this_order() {
    let broker = Broker::with(1, 1 << 30).await;
    let api = Api::start(&broker).await;
    let sent = api
        .post("ana", "/v1/messages", &to_phone("+4915112345678", "hello"))
        .expect(202)
        .await;
    let log = broker.log().await;
    let types: Vec<_> = log
        .iter()
        .map(|stored| stored.envelope["events"][0]["type"].clone())
        .collect();
    assert_eq!(
        types,
        [
            "IdentityRegistered",
            "ConversationStarted",
            "MessageAccepted"
        ]
    );
    assert_eq!(sent.body["position"], log[2].position.to_string());
    assert_eq!(sent.body["channel"], "whatsapp-main");
    assert_eq!(sent.body["status"], "PENDING");
    let event = &log[2].envelope["events"][0];
    assert_eq!(event["facts"]["deliveries"][0]["account"], "whatsapp-main");
    assert_eq!(event["personal"]["addresses"], json!(["4915112345678"]));
    // The next one is a message and nothing else.
    api.post("ana", "/v1/messages", &to_phone("4915112345678", "again"))
        .expect(202)
        .await;
    assert_eq!(broker.log().await.len(), 4);
}

/// The process died after the first and after the second of three appends.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_done_is_completed_by_repeating() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let address = Address::parse(ChannelKind::WhatsApp, "4915112345678").unwrap();
    let identity = ID_SECRET.identity(ChannelKind::WhatsApp, &address);
    let now = Timestamp::from(clock::now());
    let meet = Command::Meet {
        kind: ChannelKind::WhatsApp,
        address,
        name: None,
        at: now,
    };
    let context = Context {
        now,
        deadline: Instant::now() + Duration::from_secs(10),
        retry: Retry::Api,
        traceparent: None,
        purpose: Purpose::Accept,
        assume: Assume::Absent,
    };
    api.stores
        .identities
        .execute(&identity, meet, context)
        .await
        .unwrap();
    drop(api);
    let api = Api::start(&broker).await;
    let body = to_phone("+4915112345678", "hello");
    api.post("ana", "/v1/messages", &body)
        .key("k")
        .expect(202)
        .await;

    api.post("ana", "/v1/conversations", &json!({
        "kind": "direct", "participants": [{"channel": "whatsapp", "address": "+4915187654321"}],
    })).expect(201).await;
    drop(api);
    let api = Api::start(&broker).await;
    let body = to_phone("+4915187654321", "hello");
    let first = api
        .post("ana", "/v1/messages", &body)
        .key("k")
        .expect(202)
        .await;
    let again = api
        .post("ana", "/v1/messages", &body)
        .key("k")
        .expect(202)
        .await;
    assert_eq!((first.replay, again.replay), (false, true));
    for (r#type, count) in [
        ("IdentityRegistered", 2),
        ("ConversationStarted", 2),
        ("ParticipantJoined", 0),
        ("MessageAccepted", 2),
    ] {
        assert_eq!(broker.events(r#type).await.len(), count, "{}", r#type);
    }
}
