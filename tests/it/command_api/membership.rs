//! Who is in a conversation, as several instances see it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::sync::oneshot;

use super::stack::{Api, Broker, http_client, post, token};
use super::{id, message, user};
use chat4all_service::auth::Scope;

fn participant(conversation: &str, sub: &str) -> String {
    let (conversation, user) = (conversation.parse().unwrap(), user(sub).parse().unwrap());
    chat4all_domain::ParticipantId::of_user(conversation, user).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_participant_is_refused_by_another_instance_once_it_has_seen_that() {
    let broker = Broker::start().await;
    let (here, there) = (Api::start(&broker).await, Api::start(&broker).await);
    let group = here.group(&["ana", "ben"]).await;
    // The other instance has the conversation in its cache, with ben in it.
    there
        .post("ben", "/v1/messages", &message(&group, "hello"))
        .expect(202)
        .await;
    let path = format!(
        "/v1/conversations/{group}/participants/{}",
        participant(&group, "ben")
    );
    let remove = here
        .call(Method::DELETE, &path)
        .token(&token("ana", Scope::ALL));
    let removed = remove.expect(200).await;
    let position = id(&removed.body, "position");
    there.reaches(&position).await;
    there
        .post("ben", "/v1/messages", &message(&group, "still here?"))
        .expect(404)
        .await;
    let read = json!({"up_to": super::fresh()});
    there
        .post("ben", &format!("/v1/conversations/{group}/read"), &read)
        .expect(404)
        .await;
    // `at_least` waits for the same by itself.
    let third = Api::start(&broker).await;
    let path = format!("/v1/messages?at_least={position}");
    third
        .post("ben", &path, &message(&group, "and here?"))
        .expect(404)
        .await;
    assert_eq!(broker.events("MessageAccepted").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_because_an_instance_is_behind() {
    let broker = Broker::start().await;
    let (here, there) = (Api::start(&broker).await, Api::start(&broker).await);
    for _ in 0..50 {
        let group = here.group(&["ana", "ben"]).await;
        let path = format!("/v1/conversations/{group}/participants");
        // The other instance knows the conversation without carl, and will not have heard of him yet.
        there
            .post("carl", "/v1/messages", &message(&group, "too early"))
            .expect(404)
            .await;
        here.post("ana", &path, &json!({"user_id": user("carl")}))
            .expect(200)
            .await;
        let sent = there
            .post("carl", "/v1/messages", &message(&group, "hello"))
            .expect(202)
            .await;
        let read = json!({"up_to": sent.body["message_id"]});
        here.post("carl", &format!("/v1/conversations/{group}/read"), &read)
            .expect(200)
            .await;
        let dora = json!({"user_id": user("dora")});
        there.post("carl", &path, &dora).expect(200).await;
    }
}

/// An instance on a thread of its own, which can be frozen: meanwhile nothing arrives there, neither requests nor events.
struct Freezing {
    url: String,
    freeze: tokio::sync::mpsc::Sender<(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>)>,
}

impl Freezing {
    async fn start(broker: &Arc<Broker>) -> Self {
        let (tell_url, url) = oneshot::channel();
        let (freeze, mut freezes) = tokio::sync::mpsc::channel(1);
        let broker = Arc::clone(broker);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let api = Api::start(&broker).await;
                tell_url.send(api.url.clone()).unwrap();
                while let Some((frozen, thaw)) = freezes.recv().await {
                    let frozen: oneshot::Sender<()> = frozen;
                    let thaw: std::sync::mpsc::Receiver<()> = thaw;
                    frozen.send(()).unwrap();
                    // Blocks the only thread there is, on purpose.
                    thaw.recv().unwrap();
                }
            });
        });
        Self {
            url: url.await.unwrap(),
            freeze,
        }
    }

    /// Frozen until something is sent.
    async fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (tell_frozen, frozen) = oneshot::channel();
        let (thaw, thawing) = std::sync::mpsc::channel();
        self.freeze.send((tell_frozen, thawing)).await.unwrap();
        frozen.await.unwrap();
        thaw
    }

    /// Waits until the kernel has bytes for it that it has not read: a request stands before the frozen door.
    async fn knocked(&self) {
        let port: u16 = self.url.rsplit(':').next().unwrap().parse().unwrap();
        let unread = |row: &str| {
            let [_, local, _, _, queues] = row.split_whitespace().take(5).collect::<Vec<_>>()[..]
            else {
                return false;
            };
            let (_, received) = queues.split_once(':').unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && received.contains(|digit| digit != '0')
        };
        let begun = Instant::now();
        while !std::fs::read_to_string("/proc/net/tcp")
            .unwrap()
            .lines()
            .any(unread)
        {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "no request comes"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The request and the news of carl's joining wait side by side for the other instance to wake up. Whichever it takes
/// first, carl is in.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_overtakes_the_news_is_not_refused() {
    let broker = Arc::new(Broker::start().await);
    let here = Api::start(&broker).await;
    let there = Freezing::start(&broker).await;
    let http = http_client();
    let say = |group: &str, text: &str| {
        post(
            &http,
            &there.url,
            "carl",
            "/v1/messages",
            &message(group, text),
        )
    };
    for _ in 0..20 {
        let group = here.group(&["ana", "ben"]).await;
        say(&group, "too early").expect(404).await;
        let thaw = there.freeze().await;
        let path = format!("/v1/conversations/{group}/participants");
        here.post("ana", &path, &json!({"user_id": user("carl")}))
            .expect(200)
            .await;
        let (sent, ()) = tokio::join!(say(&group, "hello").expect(202), async {
            there.knocked().await;
            thaw.send(()).unwrap();
        });
        assert!(!sent.replay);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_who_is_there_and_removing_who_is_not_appends_nothing() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let path = format!("/v1/conversations/{group}/participants");
    let phone = json!({"channel": "whatsapp", "address": "+49 15112345678".replace(' ', "")});
    let added = api.post("ana", &path, &phone).expect(200).await;
    assert_eq!(added.body["participant"]["address"], "4915112345678");
    assert_eq!(added.body["participant"]["channel"], "whatsapp-main");
    let again = api.post("ben", &path, &phone).expect(200).await;
    assert_eq!(again.body, added.body);
    let phone = format!(
        "{path}/{}",
        added.body["participant"]["participant_id"]
            .as_str()
            .unwrap()
    );
    let remove = async || {
        let call = api
            .call(Method::DELETE, &phone)
            .token(&token("ana", Scope::ALL));
        call.expect(200).await.body
    };
    let (first, second) = (remove().await, remove().await);
    assert_eq!(first, second);
    assert_eq!(broker.events("ParticipantJoined").await.len(), 1);
    assert_eq!(broker.events("ParticipantLeft").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_closed_to_strangers_as_if_it_did_not_exist() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let group = api.group(&["ana", "ben"]).await;
    let sent = api
        .post("ana", "/v1/messages", &message(&group, "hello"))
        .expect(202)
        .await;
    let nowhere = super::fresh();
    let mut answers = Vec::new();
    for conversation in [&group, &nowhere] {
        let base = format!("/v1/conversations/{conversation}");
        let add = json!({"channel": "whatsapp", "address": "+4915112345678"});
        let read = json!({"up_to": sent.body["message_id"]});
        let remove = format!("{base}/participants/{}", participant(&group, "ana"));
        let remove = api
            .call(Method::DELETE, &remove)
            .token(&token("eve", Scope::ALL));
        let mut bodies = vec![
            api.post("eve", "/v1/messages", &message(conversation, "hi"))
                .expect(404)
                .await
                .body,
            api.post("eve", &format!("{base}/participants"), &add)
                .expect(404)
                .await
                .body,
            api.post("eve", &format!("{base}/read"), &read)
                .expect(404)
                .await
                .body,
            remove.expect(404).await.body,
        ];
        for body in &mut bodies {
            body.as_object_mut().unwrap().remove("trace_id");
        }
        answers.push(bodies);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        broker.events("IdentityRegistered").await.len(),
        0,
        "a stranger leaves no trace"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_conversation_keeps_its_parties() {
    let broker = Broker::start().await;
    let api = Api::start(&broker).await;
    let body = json!({"kind": "direct", "participants": [{"user_id": user("ben")}]});
    let direct = id(
        &api.post("ana", "/v1/conversations", &body)
            .expect(201)
            .await
            .body,
        "conversation_id",
    );
    let path = format!("/v1/conversations/{direct}/participants");
    let added = api
        .post("ana", &path, &json!({"user_id": user("carl")}))
        .expect(409)
        .await;
    assert_eq!(added.body["code"], "conflict");
    let leave = format!("{path}/{}", participant(&direct, "ana"));
    api.call(Method::DELETE, &leave)
        .token(&token("ana", Scope::ALL))
        .expect(409)
        .await;
}
