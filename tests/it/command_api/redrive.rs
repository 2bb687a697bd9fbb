//! What failed is tried again: by whom, what of it, and never refused because somebody's cache is old.

use chat4all_domain::delivery::{self, Command, FailureClass, Operation, Reason};
use chat4all_domain::{ChannelKind, Timestamp};
use chat4all_nats::execute::{Assume, Context, Purpose};
use chat4all_nats::{Retry, execute};
use chat4all_service::auth::Scope;
use chat4all_service::clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::stack::{Answer, Api, Broker, Call, token};
use super::{fresh, id, message, user};

/// A message of ana's to a group with this many phones in it.
struct Sent {
    conversation: String,
    message: String,
}

impl Sent {
    async fn to_phones(api: &Api, phones: u32) -> Self {
        let mut others = vec![json!({"user_id": user("ben")})];
        others.extend(
            (0..phones)
                .map(|n| json!({"channel": "whatsapp", "address": format!("49151{:08}", n + 1)})),
        );
        let body = json!({"kind": "group", "participants": others});
        let group = api
            .post("ana", "/v1/conversations", &body)
            .expect(201)
            .await;
        let conversation = id(&group.body, "conversation_id");
        let sent = api
            .post("ana", "/v1/messages", &message(&conversation, "hello"))
            .expect(202)
            .await;
        let message = id(&sent.body, "message_id");
        Self {
            conversation,
            message,
        }
    }

    fn deliveries(&self) -> delivery::Id {
        delivery::Id {
            kind: ChannelKind::WhatsApp,
            conversation: self.conversation.parse().unwrap(),
            message: self.message.parse().unwrap(),
        }
    }

    fn redrive(&self, api: &Api, body: Option<Value>) -> Call {
        let path = format!(
            "/v1/conversations/{}/messages/{}/redrive",
            self.conversation, self.message
        );
        let call = api.call(Method::POST, &path);
        let call = call.token(&token("operator", &[Scope::DeliveriesRedrive]));
        match body {
            Some(body) => call.json(&body),
            None => call,
        }
    }

    /// Fails delivery `n` in `generation`, as the bridge does.
    async fn fail(&self, bridge: &Api, n: u16, generation: u32) {
        let fail = Command::Fail {
            n,
            op: Operation::Send,
            generation,
            attempt: 0,
            class: FailureClass::Permanent,
            reason: Reason::RecipientNotReachable,
            provider_code: None,
            provider_text: None,
            at: Timestamp::from(clock::now()),
        };
        let store = &bridge.stores.deliveries;
        let done = store.execute(&self.deliveries(), fail, context()).await;
        assert_eq!(done.unwrap().events.len(), 1, "it had not failed yet");
    }
}

fn context() -> Context {
    Context {
        now: Timestamp::from(clock::now()),
        deadline: Instant::now() + Duration::from_secs(10),
        retry: Retry::UntilDeadline,
        traceparent: None,
        purpose: Purpose::Outcome,
        assume: Assume::Nothing,
    }
}

fn redriven(answer: &Answer) -> Value {
    answer.body["deliveries"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_and_the_log_says_who_asked() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let sent = Sent::to_phones(&api, 4).await;
    sent.fail(&api, 0, 0).await;
    sent.fail(&api, 2, 0).await;
    sent.fail(&api, 3, 0).await;
    // 1 has not failed: it stays as it is.
    let first = sent.redrive(&api, Some(json!({"deliveries": [2, 1]})));
    let first = first.expect(202).await;
    assert_eq!(redriven(&first), json!([2]));
    assert_eq!(first.body["message_id"], sent.message);
    assert_eq!(first.body["conversation_id"], sent.conversation);
    // Nothing named: all that have failed.
    let rest = sent.redrive(&api, None).expect(202).await;
    assert_eq!(redriven(&rest), json!([0, 3]));
    for body in [None, Some(json!({})), Some(json!({"deliveries": [0]}))] {
        let nothing = sent.redrive(&api, body).expect(409).await;
        assert_eq!(nothing.body["code"], "conflict");
    }
    sent.fail(&api, 0, 1).await;
    let again = sent.redrive(&api, Some(json!({}))).expect(202).await;
    assert_eq!(redriven(&again), json!([0]));
    let events = broker.events("DeliveryRedriven").await;
    let events: Vec<_> = events.iter().map(|event| &event["facts"]).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|facts| {
            (
                facts["n"].as_u64().unwrap(),
                facts["generation"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(seen, [(2, 1), (0, 1), (3, 1), (0, 2)]);
    assert!(
        events
            .iter()
            .all(|facts| facts["by"] == user("operator").as_str())
    );
    let log = broker.log().await;
    let last = log
        .iter()
        .rev()
        .find(|stored| stored.subject.contains(".delivery."));
    assert_eq!(
        last.unwrap().position.to_string(),
        id(&again.body, "position")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_is_never_refused_on_a_state_that_is_old() {
    let broker = Broker::start().await;
    let (here, bridge) = (Api::start(&broker).await, Api::start(&broker).await);
    for _ in 0..50 {
        let sent = Sent::to_phones(&here, 1).await;
        // Here it is known that nothing has failed, generation by generation; what the bridge finds comes by no other way.
        for generation in 0..3 {
            sent.redrive(&here, None).expect(409).await;
            sent.fail(&bridge, 0, generation).await;
            let known = here.stores.deliveries.cached(&sent.deliveries()).unwrap();
            let entry = known.state.entry(0, Operation::Send);
            assert_eq!(
                entry.failed, None,
                "the cache is old, or this shows nothing"
            );
            let done = sent.redrive(&here, None).expect(202).await;
            assert_eq!(redriven(&done), json!([0]));
        }
        // An instance that has never heard of the message.
        sent.fail(&here, 0, 3).await;
        sent.redrive(&bridge, None).expect(202).await;
    }
    assert_eq!(broker.events("DeliveryRedriven").await.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_in_the_meantime_is_not_sent_again() {
    let broker = Broker::start().await;
    let (here, bridge) = (Api::start(&broker).await, Api::start(&broker).await);
    let sent = Sent::to_phones(&here, 1).await;
    sent.fail(&here, 0, 0).await;
    let arrived = Command::RecordReceipt(delivery::Receipt {
        n: 0,
        op: Operation::Send,
        attempt: 0,
        step: delivery::Step::Delivered,
        at: Timestamp::from(clock::now()),
    });
    let store = &bridge.stores.deliveries;
    let done: Result<_, execute::Error<_>> =
        store.execute(&sent.deliveries(), arrived, context()).await;
    assert_eq!(done.unwrap().events.len(), 1);
    // Here it is still FAILED: the expected revision on the append says otherwise.
    sent.redrive(&here, None).expect(409).await;
    assert_eq!(broker.events("DeliveryRedriven").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_operators_at_once_redrive_once() {
    let broker = Broker::start().await;
    let apis = [Api::start(&broker).await, Api::start(&broker).await];
    let sent = Sent::to_phones(&apis[0], 3).await;
    for n in 0..3 {
        sent.fail(&apis[0], n, 0).await;
    }
    let calls = (0..100).map(|n| sent.redrive(&apis[n % 2], None).send());
    let answers = futures::future::join_all(calls).await;
    let taken: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 202)
        .collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(redriven(taken[0]), json!([0, 1, 2]));
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 202 || answer.status == 409)
    );
    assert_eq!(broker.events("DeliveryRedriven").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_and_what_does_not_exist_is_refused_and_says_why() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let sent = Sent::to_phones(&api, 2).await;
    sent.fail(&api, 0, 0).await;
    let writer = token("ana", &[Scope::MessagesWrite, Scope::ConversationsWrite]);
    let path = |conversation: &str, message: &str| {
        format!("/v1/conversations/{conversation}/messages/{message}/redrive")
    };
    let own = path(&sent.conversation, &sent.message);
    let refused = api
        .call(Method::POST, &own)
        .token(&writer)
        .expect(403)
        .await;
    assert_eq!(refused.body["scope"], "deliveries:redrive");
    api.call(Method::POST, &own).expect(401).await;
    let operator = token("operator", &[Scope::DeliveriesRedrive]);
    let elsewhere = fresh();
    for nowhere in [
        path(&sent.conversation, &elsewhere),
        path(&elsewhere, &sent.message),
    ] {
        let missing = api.call(Method::POST, &nowhere).token(&operator);
        assert_eq!(missing.expect(404).await.body["code"], "not_found");
    }
    let bodies = [
        (json!({"deliveries": []}), "/deliveries"),
        (json!({"deliveries": [0, 2]}), "/deliveries/1"),
        (json!({"deliveries": [-1]}), "/deliveries/0"),
        (json!({"delivery": [0]}), "/delivery"),
    ];
    for (body, pointer) in bodies {
        let refused = sent.redrive(&api, Some(body)).expect(422).await;
        assert_eq!(
            refused.body["errors"][0]["pointer"], pointer,
            "{}",
            refused.body
        );
    }
    let not_json = api.call(Method::POST, &own).token(&operator);
    not_json.body("{".to_owned()).expect(400).await;
    assert_eq!(broker.events("DeliveryRedriven").await.len(), 0);
    // A message with no outside recipient has nothing that can fail.
    let group = api.group(&["ana", "ben"]).await;
    let inside = api.post("ana", "/v1/messages", &message(&group, "hello"));
    let inside = id(&inside.expect(202).await.body, "message_id");
    let nothing = api
        .call(Method::POST, &path(&group, &inside))
        .token(&operator);
    nothing.expect(409).await;
}
