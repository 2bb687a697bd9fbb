//! The whole way: what a provider sends, what a provider refuses and what nobody can fold comes on the list, and what is
//! repaired leaves it.

use std::collections::BTreeSet;

use chat4all_channel_bridges::config::Account;
use chat4all_domain::delivery::{Command, Status};
use chat4all_domain::{MessageId, UserId, message};
use chat4all_nats::subject;
use chat4all_projector::{Config, Metrics, Projector};
use chat4all_service::Shutdown;
use chat4all_service::config::Poison;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::world::{ALL, DEAD, World};
use super::{EVERYTHING, ids, kinds};
use crate::bridges::stage::{ACCOUNT, Stage, body, conversation, now, number, until};
use crate::support::log::{client, context};

/// A projector of every partition, from the stage's log into the world's tables, until the test ends.
fn project(
    stage: &Stage,
    world: &World,
) -> (
    JoinSet<()>,
    watch::Sender<BTreeSet<chat4all_domain::Partition>>,
) {
    let (owned, receiver) = watch::channel(stage.node.log.partitions().all().collect());
    let schema = chat4all_postgres::Schema::default();
    let config = Config {
        log: stage.node.log.clone(),
        postgres: chat4all_postgres::Config::new(&world.postgres.url(), schema, "projector")
            .unwrap(),
        owned: receiver,
        batch: 500,
        gather: std::time::Duration::from_millis(5),
        poison: Poison::Park,
        metrics: Metrics::default(),
    };
    let mut task = JoinSet::new();
    // On the heap: it holds every read model's batch.
    let folding = Box::pin(Projector::run(config, Shutdown::new()));
    task.spawn(async move { folding.await.unwrap() });
    (task, owned)
}

async fn list(world: &World) -> Value {
    let query = format!("{{ deadLetters {{ edges {{ node {{ {EVERYTHING} }} }} }} }}");
    let mut data = world.data("op", DEAD, &query, json!({})).await;
    data["deadLetters"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_comes_on_the_list_and_what_is_repaired_leaves_it() {
    let stage = Stage::with(|_, config| {
        // So that an early receipt has to wait for its reference.
        let Account::WhatsApp(account) = config.accounts.values_mut().next().unwrap();
        account.echoes = false;
    })
    .await;
    let world = World::beside(client(&stage.node.nats.url(), "query-api").await).await;
    let _projecting = project(&stage, &world);
    let bridges = stage.bridges().await;
    assert_eq!(ids(&list(&world).await), Vec::<String>::new());

    // A webhook call as the provider signs it, with a good item and a bad one.
    let good = json!({"from": number(1), "id": "wamid.1", "timestamp": "1764000001", "type": "text",
        "text": {"body": "read by whom it concerns"}});
    let bad = json!({"from": number(1), "timestamp": "1764000001", "type": "text",
        "text": {"body": "for nobody's eyes"}});
    let call = body("messages", &json!([good, bad]));
    assert_eq!(stage.signed_webhook(&call).await, 200);
    let parked = until(|| list(&world), |seen| !ids(seen).is_empty()).await;
    assert_eq!(kinds(&parked), ["PARKED_INBOUND"]);
    let item = &parked["edges"][0]["node"];
    assert_eq!(item["what"], "ITEM");
    assert_eq!(item["reason"], "a message that cannot be read");
    assert_eq!(item["channel"], ACCOUNT);
    assert_eq!(item["sizeBytes"], bad.to_string().len());

    // The provider refuses.
    let fault = json!({"to": number(2), "fault": {"kind": "error", "code": 131_026}});
    stage.fault(fault).await;
    let refused = stage
        .post(conversation(), &[number(2)], "for one pair of eyes")
        .await;
    stage.is(&refused, 0, Status::Failed).await;
    let failed = until(|| list(&world), |seen| ids(seen).len() == 2).await;
    let letter = &failed["edges"][1]["node"];
    assert_eq!(letter["kind"], "FAILED_DELIVERY");
    assert_eq!(letter["messageId"], refused.id.message.to_string());
    assert_eq!(letter["failureReason"], "RECIPIENT_NOT_REACHABLE");
    assert_eq!(
        (&letter["providerCode"], &letter["attempts"]),
        (&json!("131026"), &json!(1))
    );

    // An event that no release of ours wrote.
    let broken = message::Id {
        conversation: conversation(),
        message: MessageId::new(Uuid::now_v7()),
    };
    let at = subject::of(stage.node.log.partitions(), &broken);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("event-types", "MessageSung");
    let text = format!("{} sang: for nobody's ears", number(3));
    let js = stage.node.log.jetstream();
    let acked = js.publish_with_headers(at.clone(), headers, text.into());
    let acked = acked.await.unwrap().await.unwrap();
    let all = until(|| list(&world), |seen| ids(seen).len() == 3).await;
    assert_eq!(
        kinds(&all),
        ["POISON_EVENT", "PARKED_INBOUND", "FAILED_DELIVERY"]
    );
    let event = &all["edges"][0]["node"];
    assert_eq!(event["eventTypes"], json!(["MessageSung"]));
    assert_eq!(event["subject"], at);
    assert_eq!(event["conversationId"], broken.conversation.to_string());
    let (partition, _) = subject::parse(&at).unwrap();
    assert_eq!(event["position"], format!("{partition}-{}", acked.sequence));
    let shown = all.to_string();
    for personal in ["49151", "eyes", "ears", "wamid"] {
        assert!(!shown.contains(personal), "{shown}");
    }

    // A receipt that comes before the call's answer waits on the list, and leaves it when its message is known.
    let slow = json!({"to": number(4), "fault": {"kind": "latency", "ms": 4_000}});
    stage.fault(slow).await;
    let early = json!({"to": number(4), "fault": {"kind": "early_receipts", "steps": ["sent"]}});
    stage.fault(early).await;
    let posted = stage.post(conversation(), &[number(4)], "hello").await;
    let with_receipt = until(|| list(&world), |seen| ids(seen).len() == 4).await;
    let receipt = &with_receipt["edges"][1]["node"];
    assert_eq!(
        (&receipt["what"], &receipt["reason"]),
        (&json!("RECEIPT"), &json!("unknown_message"))
    );
    let hash = receipt["reference"].as_str().unwrap().to_owned();
    stage.reaches(&posted, 0, Status::Sent).await;
    let without = until(|| list(&world), |seen| ids(seen).len() == 3).await;
    assert!(!without.to_string().contains(&hash));

    // Repaired and redriven, the delivery is no dead letter any more, under its id neither.
    stage.no_faults().await;
    let id = letter["id"].clone();
    let redrive = Command::Redrive {
        only: vec![],
        by: UserId::derive("test", "op"),
        at: now(),
    };
    let redriven = stage.deliveries.execute(&refused.id, redrive, context(20));
    redriven.await.unwrap();
    let left = until(|| list(&world), |seen| ids(seen).len() == 2).await;
    assert_eq!(kinds(&left), ["POISON_EVENT", "PARKED_INBOUND"]);
    let node = "query ($id: ID!) { node(id: $id) { id } }";
    let gone = world.data("op", DEAD, node, json!({ "id": id })).await;
    assert_eq!(gone["node"], Value::Null);
    stage.reaches(&refused, 0, Status::Sent).await;
    // What came in beside the bad item is where it belongs.
    let query = "{ conversations(first: 5) { nodes { messages(first: 5) { nodes { content { ... on TextContent { text } } } } } } }";
    let data = until(
        || world.data("root", ALL, query, json!({})),
        |data| data.to_string().contains("read by whom it concerns"),
    )
    .await;
    assert!(!data.to_string().contains("nobody's"), "{data}");
    bridges.stop().await;
}
