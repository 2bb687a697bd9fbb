//! Pages: both ways, stable while others write, and cheap however much there is.

use chat4all_postgres::message;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::rows::{Room, position};
use super::world::{ALL, OWN, World};

const PAGE: &str = "query ($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
    conversation(id: $id) { messages(first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { content { ... on TextContent { text } } } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    } }
}";

async fn page(world: &World, room: &Room, mut arguments: Value) -> Value {
    arguments["id"] = room.id.to_string().into();
    let mut data = world.data("ann", OWN, PAGE, arguments).await;
    data["conversation"]["messages"].take()
}

fn texts(page: &Value) -> Vec<String> {
    let edges = page["edges"].as_array().expect("a connection");
    let text = |edge: &Value| edge["node"]["content"]["text"].as_str().map(str::to_owned);
    edges.iter().filter_map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_are_paged_both_ways_without_gap_or_double_while_others_write() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann"]).await;
    for number in 0..1_000 {
        room.say(db, "ann", &format!("m{number}")).await;
    }
    let mut expected: Vec<String> = (0..1_000).map(|number| format!("m{number}")).collect();

    let (mut seen, mut after) = (Vec::new(), Value::Null);
    for round in 0.. {
        let page = page(&world, &room, json!({ "first": 70, "after": after })).await;
        assert_eq!(
            page["pageInfo"]["hasPreviousPage"],
            round > 0,
            "page {round}"
        );
        seen.extend(texts(&page));
        after = page["pageInfo"]["endCursor"].clone();
        let new = format!("new{round}");
        room.say(&mut world.writer, "ann", &new).await;
        expected.push(new);
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    // What was written after the last page was read is not in it.
    expected.pop();
    assert_eq!(seen, expected);

    let (mut seen, mut before) = (Vec::new(), json!(position(room.sequence)));
    loop {
        let page = page(&world, &room, json!({ "last": 100, "before": before })).await;
        assert_eq!(
            page["pageInfo"]["hasNextPage"], true,
            "the newest is behind `before`"
        );
        seen.splice(0..0, texts(&page));
        before = page["pageInfo"]["startCursor"].clone();
        room.say(&mut world.writer, "ann", "later").await;
        if page["pageInfo"]["hasPreviousPage"] == false {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_info_is_right_at_every_end() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut room = Room::start(db, 1, 1, &["ann"]).await;
    let mut said = Vec::new();
    for number in 0..5 {
        said.push(room.say(db, "ann", &number.to_string()).await);
    }
    let cursor = |index: usize| position(said[index]);
    let cases = [
        (json!({}), "01234", false, false),
        (json!({ "first": 5 }), "01234", false, false),
        (json!({ "first": 2 }), "01", false, true),
        (json!({ "first": 2, "after": cursor(1) }), "23", true, true),
        (json!({ "first": 2, "after": cursor(2) }), "34", true, false),
        (json!({ "first": 2, "after": cursor(4) }), "", true, false),
        (json!({ "last": 2 }), "34", true, false),
        (json!({ "last": 2, "before": cursor(3) }), "12", true, true),
        (
            json!({ "last": 3, "before": cursor(3) }),
            "012",
            false,
            true,
        ),
        (json!({ "last": 2, "before": cursor(0) }), "", false, true),
        (
            json!({ "first": 2, "after": cursor(0), "before": cursor(4) }),
            "12",
            true,
            true,
        ),
        (
            json!({ "last": 2, "after": cursor(0), "before": cursor(4) }),
            "23",
            true,
            true,
        ),
        (
            json!({ "last": 9, "after": cursor(0), "before": cursor(4) }),
            "123",
            true,
            true,
        ),
        // A cursor need not be a message's.
        (
            json!({ "first": 1, "after": position(1) }),
            "0",
            false,
            true,
        ),
        (
            json!({ "first": 1, "after": position(1_000) }),
            "",
            true,
            false,
        ),
    ];
    for (arguments, expected, previous, next) in cases {
        let page = page(&world, &room, arguments.clone()).await;
        let info = &page["pageInfo"];
        assert_eq!(texts(&page).concat(), expected, "{arguments}");
        assert_eq!(info["hasPreviousPage"], previous, "{arguments}");
        assert_eq!(info["hasNextPage"], next, "{arguments}");
        let cursors: Vec<&Value> = page["edges"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|edge| &edge["cursor"])
            .collect();
        let ends = (cursors.first().copied(), cursors.last().copied());
        assert_eq!(
            info["startCursor"],
            *ends.0.unwrap_or(&Value::Null),
            "{arguments}"
        );
        assert_eq!(
            info["endCursor"],
            *ends.1.unwrap_or(&Value::Null),
            "{arguments}"
        );
    }
    let (status, rest) = world
        .rest(
            "ann",
            OWN,
            &format!(
                "/v1/conversations/{}/messages?last=2&before={}",
                room.id,
                cursor(3)
            ),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        rest["page_info"],
        json!({
            "has_previous_page": true, "has_next_page": true,
            "start_cursor": cursor(1), "end_cursor": cursor(2)
        })
    );
    assert_eq!(
        rest["messages"][1]["content"],
        json!({ "type": "text", "text": "2" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_are_paged_by_last_activity_both_ways_alike_for_own_and_all() {
    let mut world = World::new().await;
    for number in 1..=25_i64 {
        // Several at the same moment: the id tells them apart.
        let first = 100 * (number / 3);
        Room::start(
            &mut world.writer,
            number.unsigned_abs().into(),
            first,
            &["ann"],
        )
        .await;
    }
    for (who, scopes) in [("ann", OWN), ("root", ALL)] {
        let list = "query ($first: Int, $after: String, $last: Int, $before: String) {
            conversations(first: $first, after: $after, last: $last, before: $before) {
                nodes { conversationId lastActivityAt } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
            } }";
        let whole = world.data(who, scopes, list, json!({ "first": 100 })).await;
        let whole = whole["conversations"]["nodes"].as_array().unwrap().clone();
        assert_eq!(whole.len(), 25);
        let times: Vec<&str> = whole
            .iter()
            .filter_map(|c| c["lastActivityAt"].as_str())
            .collect();
        assert!(
            times.is_sorted_by(|newer, older| newer >= older),
            "{times:?}"
        );
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let arguments = json!({ "first": 4, "after": after });
            let page = &world.data(who, scopes, list, arguments).await["conversations"];
            assert_eq!(page["pageInfo"]["hasPreviousPage"], !seen.is_empty());
            seen.extend(page["nodes"].as_array().unwrap().clone());
            after = page["pageInfo"]["endCursor"].clone();
            if page["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert_eq!(seen, whole);
        let (mut seen, mut before) = (Vec::new(), Value::Null);
        loop {
            let arguments = json!({ "last": 4, "before": before });
            let page = &world.data(who, scopes, list, arguments).await["conversations"];
            assert_eq!(page["pageInfo"]["hasNextPage"], !seen.is_empty());
            seen.splice(0..0, page["nodes"].as_array().unwrap().clone());
            before = page["pageInfo"]["startCursor"].clone();
            if page["pageInfo"]["hasPreviousPage"] == false {
                break;
            }
        }
        assert_eq!(seen, whole);
    }
}

/// 120,000 messages, 100,000 of them in one conversation, which somebody has left early.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_scans_the_messages() {
    let mut world = World::new().await;
    let db = &mut world.writer;
    let mut big = Room::start(db, 1, 1, &["ann", "bob"]).await;
    big.say(db, "ann", "first").await;
    big.leave(db, "bob").await;
    fill(db, &mut big, 100_000).await;
    for number in 2..=21 {
        let mut small = Room::start(db, number, 1, &["ann", "bob"]).await;
        fill(db, &mut small, 1_000).await;
    }
    for table in [
        "messages",
        "participants",
        "conversations",
        "deliveries",
        "readers",
    ] {
        sqlx::query(sqlx::AssertSqlSafe(format!("analyze {table}")))
            .execute(&mut *db)
            .await
            .unwrap();
    }
    let scans = "select coalesce(seq_scan, 0), coalesce(idx_scan, 0) from pg_stat_user_tables where relname = 'messages'";
    let before: (i64, i64) = sqlx::query_as(scans).fetch_one(&mut *db).await.unwrap();

    for (who, scopes) in [("ann", OWN), ("bob", OWN), ("root", ALL)] {
        let started = std::time::Instant::now();
        for range in ["", "(last: 50)", "(first: 50, after: \"07-50000\")"] {
            let query = format!(
                "query ($id: ID!) {{ conversation(id: $id) {{ messages{range} {{
                    nodes {{ messageId status author {{ userId }} deliveries {{ status }} readBy {{ readAt }} }}
                    pageInfo {{ hasNextPage hasPreviousPage }} }} }}
                    conversations(first: 20) {{ nodes {{ lastMessage {{ messageId }} }} }} }}"
            );
            let data = world
                .data(who, scopes, &query, json!({ "id": big.id.to_string() }))
                .await;
            let shown = data["conversation"]["messages"]["nodes"]
                .as_array()
                .unwrap()
                .len();
            let expected = match (who, range) {
                ("bob", "(first: 50, after: \"07-50000\")") => 0,
                ("bob", _) => 1,
                _ => 50,
            };
            assert_eq!(shown, expected, "{who} {range}");
            let id = big.message_id(if who == "bob" { 2 } else { 50_000 });
            let path = format!("/v1/conversations/{}/messages/{id}", big.id);
            assert_eq!(world.rest(who, scopes, &path).await.0, 200);
        }
        println!(
            "{who}: three times two pages and a message in {:?}",
            started.elapsed()
        );
    }

    // Connections tell the server what they did at the latest when they end.
    world.pool.close().await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let after = loop {
        let mut db = reconnected(&world).await;
        let after: (i64, i64) = sqlx::query_as(scans).fetch_one(&mut db).await.unwrap();
        if after.1 > before.1 {
            break after;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "no index scan was reported: {after:?}"
        );
    };
    assert_eq!(after.0, before.0, "sequential scans of messages");
}

async fn reconnected(world: &World) -> PgConnection {
    let url = world.postgres.url();
    PgConnection::connect(&url).await.unwrap()
}

async fn fill(db: &mut PgConnection, room: &mut Room, number: usize) {
    let mut left = number;
    while left > 0 {
        let chunk: Vec<message::Row> = (0..left.min(10_000))
            .map(|_| {
                room.sequence += 1;
                room.message("ann", "what is said when there is much to say")
            })
            .collect();
        left -= chunk.len();
        message::insert(db, &chunk).await.unwrap();
    }
}
