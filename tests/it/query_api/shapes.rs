//! What an answer looks like, and that text comes out as it went in.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use super::rows::{Room, identity_of};
use super::world::{ALL, OWN, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_shows_its_deliveries_their_history_and_who_has_read_it() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann", "bob"]).await;
    for number in 1..=3 {
        room.join_contact(db, number).await;
    }
    let said = room.say(db, "ann", "hello").await;
    room.deliver(db, said, &[(1, "READ"), (2, "DELIVERED"), (3, "FAILED")])
        .await;
    room.mark(db, "bob", said).await;
    room.join(db, "late").await;
    let next = room.say(db, "ann", "to users only").await;
    room.mark(db, "late", next).await;

    let path = format!(
        "/v1/conversations/{}/messages/{}",
        room.id,
        room.message_id(said)
    );
    let (status, rest) = world.rest("ann", OWN, &path).await;
    assert_eq!(status, 200);
    insta::assert_json_snapshot!("rest_message", rest);

    let query = "query ($c: ID!, $m: ID!) { message(conversationId: $c, messageId: $m) {
        id messageId conversationId position status origin channel
        conversation { title kind messageCount } author { userId identity { name } }
        content { __typename ... on TextContent { text } ... on UnsupportedContent { what } }
        occurredAt recordedAt validUntil deliveryCounts { pending sent delivered read failed }
        deliveries { number channelKind channel address status highestStatus generation attempts
            attemptedAt sentAt deliveredAt readAt failedAt failureClass failureReason providerCode waitingUntil
            participant { channelKind channel address identity { id name channelKind address firstSeenAt position } }
            history { type attempt } }
        history { number type position attempt occurredAt failureClass failureReason providerCode generation byUserId }
        readBy { participantId upToMessageId readAt participant { userId } } } }";
    let variables = json!({ "c": room.id.to_string(), "m": room.message_id(said).to_string() });
    let data = world.data("ann", OWN, query, variables).await;
    insta::assert_json_snapshot!("graphql_message", data);

    // Nobody outside gets the second one.
    let path = format!("/v1/conversations/{}/messages?last=1", room.id);
    let (_, list) = world.rest("ann", OWN, &path).await;
    assert_eq!(list["messages"][0]["status"], Value::Null);
    assert_eq!(list["messages"][0]["read_by"].as_array().unwrap().len(), 1);
    let (_, list) = world.rest("ann", OWN, "/v1/conversations").await;
    insta::assert_json_snapshot!("rest_conversations", list);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_found_again_by_its_id() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann"]).await;
    room.join_contact(db, 1).await;
    room.say(db, "ann", "hello").await;
    let query = "{ conversations(first: 5) { nodes { id __typename participants { id __typename identity { id __typename } }
        messages(first: 5) { nodes { id __typename } } } } }";
    let data = world.data("ann", OWN, query, json!({})).await;
    let mut nodes = Vec::new();
    collect(&data, &mut nodes);
    assert_eq!(nodes.len(), 5, "{nodes:?}");
    for (id, kind) in nodes {
        let again = world
            .data(
                "ann",
                OWN,
                "query ($id: ID!) { node(id: $id) { id __typename } }",
                json!({ "id": id }),
            )
            .await;
        assert_eq!(again["node"], json!({ "id": id, "__typename": kind }));
    }
    for id in [
        "",
        "x",
        "conversation:x",
        &format!("message:{}", room.id),
        &identity_of(9).to_string(),
    ] {
        let nothing = world.data(
            "ann",
            OWN,
            "query ($id: ID!) { node(id: $id) { id } }",
            json!({ "id": id }),
        );
        assert_eq!(nothing.await["node"], Value::Null, "{id}");
    }
}

fn collect(value: &Value, nodes: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            if let (Some(Value::String(id)), Some(Value::String(kind))) =
                (members.get("id"), members.get("__typename"))
            {
                nodes.push((id.clone(), kind.clone()));
            }
            members.values().for_each(|member| collect(member, nodes));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, nodes)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arbitrary_text_comes_out_unchanged() {
    let mut world = World::new().await;
    let mut room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let any = any::<String>().prop_filter("Text::parse", |text| {
        !text.contains('\0') && !text.trim().is_empty()
    });
    let mut texts = vec![
        "\u{202e}x\u{2028}\u{feff}\u{10ffff}".to_owned(),
        "'; drop table messages; --\n\t\"\\ %s ${x} {{y}} <b>&amp;".to_owned(),
        " \u{a0}e\u{301}👩‍👩‍👧‍👦 ".to_owned(),
    ];
    for _ in 0..90 {
        texts.push(any.new_tree(&mut runner).unwrap().current());
    }
    for text in &texts {
        room.say(&mut world.writer, "ann", text).await;
    }
    let query = "query ($id: ID!) { conversation(id: $id) { messages(first: 100) {
        nodes { content { ... on TextContent { text } } } } } }";
    let data = world
        .data("x", ALL, query, json!({ "id": room.id.to_string() }))
        .await;
    let nodes = data["conversation"]["messages"]["nodes"]
        .as_array()
        .unwrap();
    let (_, rest) = world
        .rest(
            "ann",
            OWN,
            &format!("/v1/conversations/{}/messages?first=100", room.id),
        )
        .await;
    assert_eq!(nodes.len(), texts.len());
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(nodes[index]["content"]["text"], **text);
        assert_eq!(rest["messages"][index]["content"]["text"], **text);
    }
}
