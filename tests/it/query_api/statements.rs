//! A page costs the same number of statements, however many items it has.

use serde_json::json;

use super::rows::Room;
use super::world::{OWN, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_fifty_messages_costs_as_many_statements_as_a_page_of_one() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann", "bob", "eve"]).await;
    for number in 1..=3 {
        room.join_contact(db, number).await;
    }
    for number in 0..60 {
        let author = ["ann", "bob"][number % 2];
        let said = room.say(db, author, "hello").await;
        room.deliver(db, said, &[(1, "READ"), (2, "SENT"), (3, "FAILED")])
            .await;
    }
    let last = room.say(db, "ann", "bye").await;
    room.mark(db, "bob", last).await;
    room.mark(db, "eve", last).await;

    let query = "query ($id: ID!, $first: Int!) { conversation(id: $id) {
        participants { participantId identity { name } }
        messages(first: $first) { edges { cursor node {
            messageId status deliveryCounts { read failed }
            author { participantId }
            deliveries { status participant { address } }
            history { type }
            readBy { participantId }
        } } pageInfo { hasNextPage } } } }";
    // Often, because a batch that goes out in two does so now and then.
    for first in [1, 2, 25, 50].repeat(10) {
        world.wire.take();
        let variables = json!({ "id": room.id.to_string(), "first": first });
        let data = world.data("ann", OWN, query, variables).await;
        let edges = data["conversation"]["messages"]["edges"]
            .as_array()
            .unwrap()
            .clone();
        assert_eq!(edges.len(), first);
        for edge in &edges {
            let node = &edge["node"];
            assert_eq!(node["deliveries"].as_array().unwrap().len(), 3);
            assert_eq!(node["history"].as_array().unwrap().len(), 6);
            assert_eq!(node["status"], "SENT");
            let author = &node["author"]["participantId"];
            let readers = if *author == room.participant("bob").to_string() {
                1
            } else {
                2
            };
            assert_eq!(node["readBy"].as_array().unwrap().len(), readers);
        }
        // Conversation, everybody, their identities, page, authors, deliveries (which are counted, too), their participants, histories, marks.
        // Everybody is asked for twice, a level apart: by the conversation and by `readBy`.
        let statements = world.wire.take();
        assert_eq!(statements.len(), 10, "a page of {first}: {statements:#?}");
    }

    for (first, expected) in [(1, 5), (50, 5)] {
        world.wire.take();
        let path = format!("/v1/conversations/{}/messages?first={first}", room.id);
        let (status, rest) = world.rest("ann", OWN, &path).await;
        assert_eq!(
            (status.as_u16(), rest["messages"].as_array().unwrap().len()),
            (200, first)
        );
        let statements = world.wire.take();
        assert_eq!(
            statements.len(),
            expected,
            "REST, page of {first}: {statements:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_many_conversations_are_one_statement() {
    let mut world = World::new().await;
    for number in 1..=20 {
        let mut room = Room::start(&mut world.writer, number, 1, &["ann"]).await;
        room.say(&mut world.writer, "ann", "hello").await;
    }
    let query = "query ($first: Int!) { conversations(first: $first) { nodes {
        messages(last: 3) { nodes { status author { userId } } } } } }";
    let mut counts = Vec::new();
    for first in [1, 20] {
        world.wire.take();
        let data = world
            .data("ann", OWN, query, json!({ "first": first }))
            .await;
        let nodes = data["conversations"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), first);
        assert!(
            nodes
                .iter()
                .all(|node| node["messages"]["nodes"].as_array().unwrap().len() == 1)
        );
        counts.push(world.wire.take().len());
    }
    // Conversations, their messages, tallies, authors.
    assert_eq!(counts, [4, 4]);
}
