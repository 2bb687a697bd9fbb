//! A receipt that was put aside looks for its message once more: whoever stores the reference may have looked for receipts just
//! before.

use std::time::Duration;

use async_nats::HeaderMap;
use chat4all_channel_bridges::reference::{self, Reference};
use chat4all_domain::delivery::{Command, Operation, SentPersonal, Status};
use chat4all_nats::lease::{self, Lease};
use chat4all_nats::parked;
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stage::{
    ACCOUNT, KIND, Posted, Stage, account_id, body, conversation, now, number, until,
};
use crate::support::log::context;
use crate::support::proxy::Proxy;

/// The provider's id of the message.
const PROVIDER_ID: &str = "wamid.early";

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_whose_reference_comes_while_it_is_put_aside_finds_its_message_by_itself() {
    let stage = Stage::start().await;
    // The bridge under test has no partition, so that it only understands what comes in: it does not meet the `DeliverySent`,
    // behind which it would look for receipts.
    let held = every_partition(&stage).await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    sent_by_the_other(&stage, &posted).await;
    let proxy = Proxy::start(stage.node.nats.port(), 0, 1).await;
    let bridges = stage
        .worker_at(&proxy.url(), "bridges-1", &stage.metrics, true)
        .await;

    let parking = proxy.hold_once("PARKED");
    let status = json!({"id": PROVIDER_ID, "status": "delivered", "timestamp": "1764000001", "recipient_id": number(1)});
    let told = body("statuses", &json!([status]));
    assert_eq!(stage.signed_webhook(&told).await, StatusCode::OK);
    parking.has_come().await;
    assert_eq!(stage.parked().await.len(), 1, "nobody knew its message");
    assert_eq!(stage.entry(&posted, 0).await.status(), Status::Sent);
    // The other one looked for receipts before this one was put aside: it stores the reference, and looks for none.
    store_reference(&stage, &posted).await;
    parking.let_go();

    stage.is(&posted, 0, Status::Delivered).await;
    until(|| stage.parked(), Vec::is_empty).await;
    let others = held.iter().all(Lease::renewed_lately);
    assert!(others, "the bridge under test may have had partitions");
    bridges.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_a_bridge_had_put_aside_before_it_was_killed_goes_with_its_receipt() {
    let stage = Stage::start().await;
    let held = every_partition(&stage).await;
    let posted = stage.post(conversation(), &[number(1)], "hello").await;
    sent_by_the_other(&stage, &posted).await;
    let status = json!({"id": PROVIDER_ID, "status": "delivered", "timestamp": "1764000001", "recipient_id": number(1)});
    // The killed one had stored the call and put the receipt aside, and did not come to say so.
    let mut headers = HeaderMap::new();
    headers.insert(parked::ACCOUNT, ACCOUNT);
    let short = reference::shortened(PROVIDER_ID);
    let aside = parked::receipt_subject(KIND, &account_id(), &short);
    for (subject, payload) in [
        (
            "chat.in.whatsapp".to_owned(),
            body("statuses", &json!([&status])),
        ),
        (aside, status.to_string()),
    ] {
        let js = stage.node.log.jetstream();
        let sent = js.publish_with_headers(subject, headers.clone(), payload.into());
        sent.await.unwrap().await.unwrap();
    }
    store_reference(&stage, &posted).await;
    assert_eq!(stage.parked().await.len(), 1);

    let bridges = stage.worker("bridges-1", &stage.metrics, true).await;
    stage.is(&posted, 0, Status::Delivered).await;
    until(|| stage.parked(), Vec::is_empty).await;
    let others = held.iter().all(Lease::renewed_lately);
    assert!(others, "the bridge under test may have had partitions");
    bridges.stop().await;
}

/// Another bridge, which gives back nothing of what it is asked for.
async fn every_partition(stage: &Stage) -> Vec<Lease> {
    let (log, role) = (stage.log("other").await, format!("bridge-{KIND}"));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut leases = lease::join(log, &role, "other", &tasks, &stop);
    let mut held = Vec::new();
    while held.len() < 8 {
        let lease = timeout(Duration::from_secs(30), leases.recv()).await;
        held.push(lease.expect("it is alone").expect("it was not stopped"));
    }
    held
}

/// What the log says when the provider has taken the message.
async fn sent_by_the_other(stage: &Stage, posted: &Posted) {
    let (n, op, attempt, at) = (0, Operation::Send, 1, now());
    let attempted = Command::Attempt {
        n,
        op,
        attempt,
        owner: "other".to_owned(),
        at,
    };
    let sent = Command::RecordSent {
        n,
        op,
        attempt,
        parts: SentPersonal {
            parts: vec![PROVIDER_ID.to_owned()],
        },
        at,
    };
    for command in [attempted, sent] {
        let executed = stage.deliveries.execute(&posted.id, command, context(20));
        executed.await.unwrap();
    }
}

async fn store_reference(stage: &Stage, posted: &Posted) {
    let reference = Reference {
        conversation: posted.id.conversation,
        message: posted.id.message,
        n: 0,
        attempt: 1,
    };
    let key = reference::key(KIND, &account_id(), PROVIDER_ID);
    let js = stage.node.log.jetstream();
    let references = js.get_key_value("PROVIDER_REFS").await.unwrap();
    let value = reference.to_string().into();
    references.put(key, value).await.unwrap();
}
