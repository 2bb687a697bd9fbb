//! What an operator sees with `nats stream view`: subject, headers, and JSON.

use chat4all_nats::execute::Context;
use serde_json::json;

use crate::support::deliveries::{attempt, id, messages, store};
use crate::support::log::{context, one_node};

#[tokio::test]
async fn an_event_on_the_log_is_readable_without_a_decoder() {
    let node = one_node().await;
    let (store, id) = (store(&node.log), id(7));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = Context {
        traceparent: Some(traceparent.to_owned()),
        ..context(10)
    };
    let executed = store
        .execute(&id, attempt(0, 1, "bridge-1"), traced)
        .await
        .unwrap();

    let all = messages(&node.log, &id).await;
    assert_eq!(all.len(), 1);
    let (sequence, message) = &all[0];
    assert_eq!(*sequence, executed.position.sequence);
    let partition = executed.position.partition;
    assert_eq!(
        message.subject.as_str(),
        format!(
            "chat.evt.{partition}.delivery.whatsapp.{}.{}",
            id.conversation, id.message
        )
    );
    let header = |name: &str| {
        message
            .headers
            .get(name)
            .map(|value| value.as_str().to_owned())
    };
    let command_id = header("command-id").expect("a command id");
    assert_eq!(header("Nats-Msg-Id"), Some(command_id.clone()));
    assert_eq!(header("event-types").as_deref(), Some("DeliveryAttempted"));
    assert_eq!(header("event-versions").as_deref(), Some("1"));
    assert_eq!(header("traceparent").as_deref(), Some(traceparent));

    let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    let expected = json!({
        "command_id": command_id,
        "aggregate": "delivery",
        "id": format!("delivery.whatsapp.{}.{}", id.conversation, id.message),
        "version": 1,
        "events": [{
            "v": 1,
            "type": "DeliveryAttempted",
            "facts": {
                "n": 0, "op": "send", "attempt": 1, "owner": "bridge-1",
                "occurred_at": "2025-11-24T16:00:00.000Z",
            },
        }],
        "meta": {"recorded_at": "2025-11-24T16:00:00.000Z"},
    });
    assert_eq!(payload, expected);
}
