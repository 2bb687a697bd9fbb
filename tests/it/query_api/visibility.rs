//! Who sees what. Everything is asked through GraphQL and through REST, and must be the same.

use chat4all_service::auth::Scope;
use serde_json::{Value, json};

use super::rows::{Room, identity_of};
use super::world::{ALL, OWN, World};

/// What somebody sees of a room: its messages' texts, `None` when there is no such room for them.
async fn seen(world: &World, who: &str, scopes: &[Scope], room: &Room) -> Option<String> {
    let query = "query ($id: ID!) { conversation(id: $id) { messages {
        nodes { messageId content { ... on TextContent { text } } } } } }";
    let data = world
        .data(who, scopes, query, json!({ "id": room.id.to_string() }))
        .await;
    let graphql = data["conversation"]["messages"]["nodes"]
        .as_array()
        .map(|nodes| {
            nodes
                .iter()
                .filter_map(|node| node["content"]["text"].as_str())
                .collect::<String>()
        });
    let path = format!("/v1/conversations/{}/messages", room.id);
    let (status, rest) = world.rest(who, scopes, &path).await;
    let by_rest = rest["messages"].as_array().map(|messages| {
        messages
            .iter()
            .filter_map(|message| message["content"]["text"].as_str())
            .collect::<String>()
    });
    assert_eq!(status, if graphql.is_some() { 200 } else { 404 });
    assert_eq!(graphql, by_rest, "GraphQL and REST show the same");
    graphql
}

/// The same message by message, by key and as a node.
async fn seen_one_by_one(
    world: &World,
    who: &str,
    scopes: &[Scope],
    room: &Room,
    said: &[i64],
) -> String {
    let query = "query ($c: ID!, $m: ID!, $n: ID!) {
        message(conversationId: $c, messageId: $m) { content { ... on TextContent { text } } }
        node(id: $n) { id ... on Message { content { ... on TextContent { text } } } } }";
    let mut texts = String::new();
    for sequence in said {
        let (c, m) = (room.id, room.message_id(*sequence));
        let variables =
            json!({ "c": c.to_string(), "m": m.to_string(), "n": format!("message:{c}:{m}") });
        let data = world.data(who, scopes, query, variables).await;
        let text = data["message"]["content"]["text"].as_str();
        assert_eq!(text, data["node"]["content"]["text"].as_str());
        let path = format!("/v1/conversations/{c}/messages/{m}");
        let (status, rest) = world.rest(who, scopes, &path).await;
        assert_eq!(status, if text.is_some() { 200 } else { 404 });
        assert_eq!(text, rest["content"]["text"].as_str());
        texts.push_str(text.unwrap_or_default());
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_sees_what_was_said_while_they_were_there() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann", "bob"]).await;
    let mut said = vec![room.say(db, "ann", "a").await];
    room.join(db, "late").await;
    said.push(room.say(db, "ann", "b").await);
    room.leave(db, "bob").await;
    room.leave(db, "late").await;
    said.push(room.say(db, "ann", "c").await);
    room.join(db, "bob").await;
    said.push(room.say(db, "ann", "d").await);
    room.leave(db, "bob").await;
    said.push(room.say(db, "ann", "e").await);
    room.join(db, "bob").await;
    said.push(room.say(db, "ann", "f").await);
    room.join(db, "new").await;

    for (who, scopes, expected) in [
        ("ann", OWN, Some("abcdef")),
        ("late", OWN, Some("b")),
        ("bob", OWN, Some("abdf")),
        ("new", OWN, Some("")),
        ("outsider", OWN, None),
        ("outsider", ALL, Some("abcdef")),
        ("bob", ALL, Some("abcdef")),
    ] {
        assert_eq!(
            seen(&world, who, scopes, &room).await.as_deref(),
            expected,
            "{who} {scopes:?}"
        );
        let one_by_one = seen_one_by_one(&world, who, scopes, &room, &said).await;
        assert_eq!(one_by_one, expected.unwrap_or_default(), "{who} {scopes:?}");
        let (_, list) = world.rest(who, scopes, "/v1/conversations").await;
        let listed = list["conversations"].as_array().unwrap().len();
        assert_eq!(listed, usize::from(expected.is_some()), "{who} {scopes:?}");
    }

    // A cursor opens nothing that is closed.
    let path = format!(
        "/v1/conversations/{}/messages?last=9&before={}",
        room.id,
        super::rows::position(said[3])
    );
    let (_, page) = world.rest("late", OWN, &path).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
    assert_eq!(page["page_info"]["has_previous_page"], false);
    assert_eq!(page["page_info"]["has_next_page"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_knows_what_was_known_when_they_left() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann", "bob", "eve"]).await;
    room.join_contact(db, 1).await;
    let said = room.say(db, "ann", "a").await;
    room.mark(db, "eve", said).await;
    room.leave(db, "bob").await;
    let left_at = super::rows::at(room.sequence);
    room.leave(db, "eve").await;
    room.join(db, "late").await;
    room.join_contact(db, 2).await;
    room.say(db, "ann", "b").await;
    let query = "query ($id: ID!, $late: ID!, $i1: ID!, $i2: ID!) {
        conversation(id: $id) { lastActivityAt messageCount
            participants { userId address leftAt } readMarks { participantId }
            lastMessage { content { ... on TextContent { text } } readBy { participantId } } }
        late: node(id: $late) { id }
        met: identity(id: $i1) { name } unmet: identity(id: $i2) { name }
        identities { nodes { name } } }";
    let variables = json!({
        "id": room.id.to_string(),
        "late": format!("participant:{}:{}", room.id, room.participant("late")),
        "i1": identity_of(1).to_string(),
        "i2": identity_of(2).to_string(),
    });
    let bob = world.data("bob", OWN, query, variables.clone()).await;
    let conversation = &bob["conversation"];
    let left_at = chat4all_domain::Timestamp::from(left_at).to_string();
    assert_eq!(conversation["lastActivityAt"], left_at);
    assert_eq!(conversation["messageCount"], Value::Null);
    assert_eq!(conversation["lastMessage"]["content"]["text"], "a");
    assert_eq!(
        conversation["lastMessage"]["readBy"],
        json!([{ "participantId": room.participant("eve").to_string() }])
    );
    let everybody = conversation["participants"].as_array().unwrap();
    assert_eq!(everybody.len(), 4, "{everybody:#?}");
    let gone: Vec<_> = everybody
        .iter()
        .filter(|p| !p["leftAt"].is_null())
        .collect();
    assert_eq!(gone.len(), 1, "only their own leaving: {everybody:#?}");
    assert_eq!(bob["late"], Value::Null);
    assert_eq!(bob["met"]["name"], "Customer 1");
    assert_eq!(bob["unmet"], Value::Null);
    assert_eq!(
        bob["identities"]["nodes"],
        json!([{ "name": "Customer 1" }])
    );

    let ann = world.data("ann", OWN, query, variables.clone()).await;
    assert_eq!(
        ann["conversation"]["participants"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert_eq!(ann["conversation"]["messageCount"], 2);
    assert_eq!(ann["late"]["id"], variables["late"]);
    assert_eq!(ann["identities"]["nodes"].as_array().unwrap().len(), 2);

    let outsider = world.data("outsider", OWN, query, variables).await;
    for field in ["conversation", "late", "met", "unmet"] {
        assert_eq!(outsider[field], Value::Null, "{field}");
    }
    assert_eq!(outsider["identities"]["nodes"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn not_yours_and_not_there_are_answered_alike() {
    let mut world = World::new().await;
    let mut room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    let said = room.say(&mut world.writer, "ann", "secret").await;
    let (c, m) = (room.id.to_string(), room.message_id(said).to_string());
    let none = "00000000-0000-0000-0000-00000000dead";
    for (hidden, absent) in [
        (
            format!("/v1/conversations/{c}"),
            format!("/v1/conversations/{none}"),
        ),
        (
            format!("/v1/conversations/{c}/messages"),
            format!("/v1/conversations/{none}/messages"),
        ),
        (
            format!("/v1/conversations/{c}/messages/{m}"),
            format!("/v1/conversations/{c}/messages/{none}"),
        ),
    ] {
        let answers = [
            world.rest("outsider", OWN, &hidden).await,
            world.rest("outsider", OWN, &absent).await,
        ];
        assert_eq!(answers[0].0, 404);
        assert_eq!(answers[0], answers[1], "{hidden}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_without_the_scope_or_without_a_token() {
    let mut world = World::new().await;
    let room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    let all_alone: &[Scope] = &[Scope::ConversationsReadAll, Scope::MessagesWrite];
    for path in [
        "/v1/conversations".to_owned(),
        format!("/v1/conversations/{}", room.id),
        format!("/v1/conversations/{}/messages", room.id),
        format!("/v1/conversations/{0}/messages/{0}", room.id),
    ] {
        let (status, problem) = world.rest("ann", all_alone, &path).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (403, &json!("forbidden")),
            "{path}"
        );
        assert_eq!(problem["scope"], "conversations:read");
        let stranger = world.stranger(&path).await;
        assert_eq!(stranger.status(), 401, "{path}");
    }
    for field in [
        "conversations { nodes { id } }".to_owned(),
        format!("conversation(id: \"{}\") {{ id }}", room.id),
        format!(
            "message(conversationId: \"{0}\", messageId: \"{0}\") {{ id }}",
            room.id
        ),
        "identities { nodes { id } }".to_owned(),
        format!("identity(id: \"{}\") {{ id }}", room.id),
        format!("node(id: \"conversation:{}\") {{ id }}", room.id),
    ] {
        let (_, answer) = world
            .ask("ann", all_alone, &format!("{{ {field} }}"), json!({}))
            .await;
        assert_eq!(
            answer["errors"][0]["extensions"]["code"], "forbidden",
            "{answer:#}"
        );
        assert_eq!(
            answer["errors"][0]["extensions"]["scope"],
            "conversations:read"
        );
    }
}
