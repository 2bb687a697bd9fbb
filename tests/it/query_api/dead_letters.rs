//! Dead letters: three kinds as one list, for who may see them, with nothing personal in it.

mod journey;
mod role;

use std::collections::BTreeSet;

use chat4all_nats::parked;
use chat4all_postgres::dead_letter;
use chat4all_service::auth::Scope;
use serde_json::{Value, json};

use super::parked::{account, park, park_item};
use super::rows::{PARTITION, Room, at};
use super::world::{ACQUIRE, DEAD, OWN, STATEMENT, World};
use crate::bridges::stage::until;
use crate::support::log::{OneNode, client, one_node};

/// A broker, a database, and one of each kind whenever somebody asks for it.
struct Scene {
    node: OneNode,
    world: World,
    room: Room,
    poisoned: i64,
}

impl Scene {
    async fn start() -> Self {
        let node = one_node().await;
        let mut world = World::beside(client(&node.nats.url(), "query-api").await).await;
        let mut room = Room::start(&mut world.writer, 1, 1, &["ann", "bob"]).await;
        room.join_contact(&mut world.writer, 1).await;
        Self {
            node,
            world,
            room,
            poisoned: 0,
        }
    }

    async fn with(poisoned: usize, parked: usize, failed: usize) -> Self {
        let mut scene = Self::start().await;
        for _ in 0..poisoned {
            scene.poison().await;
        }
        for _ in 0..parked {
            park_item(&scene.node.log, "whatsapp-main").await;
        }
        for _ in 0..failed {
            scene.fail().await;
        }
        scene
    }

    /// A message whose only delivery has failed.
    async fn fail(&mut self) {
        let db = &mut self.world.writer;
        let said = self.room.say(db, "ann", "what nobody else may read").await;
        self.room.deliver(db, said, &[(1, "FAILED")]).await;
    }

    async fn poison(&mut self) {
        self.poisoned += 1;
        let row = dead_letter::Row {
            partition: PARTITION,
            sequence: self.poisoned,
            subject: format!("chat.evt.07.message.{}.{}", self.room.id, self.room.id),
            error: "the message is not an event envelope: wrong at line 1, column 2".to_owned(),
            payload: b"+4915112345678 wrote: what nobody else may read".to_vec(),
            recorded_at: at(self.poisoned),
            event_types: Some("MessageAccepted,MessageEdited".to_owned()),
            conversation_id: Some(self.room.id.uuid()),
        };
        dead_letter::insert(&mut self.world.writer, &[row])
            .await
            .unwrap();
    }

    async fn page(&self, arguments: Value) -> Value {
        let mut data = self.world.data("op", DEAD, LIST, arguments).await;
        data["deadLetters"].take()
    }
}

const LIST: &str = "query ($kinds: [DeadLetterKind!], $filter: DeadLetterFilter, $first: Int, $after: String, $last: Int,
    $before: String) {
    deadLetters(kinds: $kinds, filter: $filter, first: $first, after: $after, last: $last, before: $before) {
        edges { cursor node { id kind at } }
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

const EVERYTHING: &str = "__typename ... on DeadLetter { id kind at }
    ... on FailedDelivery { conversationId messageId number participantId channelKind channel failureClass failureReason
        providerCode generation attempts attemptedAt position }
    ... on PoisonEvent { position partition subject eventTypes conversationId error }
    ... on ParkedInbound { what reason sequence channelKind channel reference sizeBytes }";

fn nodes(page: &Value) -> Vec<Value> {
    let edges = page["edges"].as_array().unwrap();
    edges.iter().map(|edge| edge["node"].clone()).collect()
}

fn ids(page: &Value) -> Vec<String> {
    let id = |node: &Value| node["id"].as_str().unwrap().to_owned();
    nodes(page).iter().map(id).collect()
}

fn kinds(page: &Value) -> Vec<String> {
    let kind = |node: &Value| node["kind"].as_str().unwrap().to_owned();
    nodes(page).iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_shows_what_an_operator_needs_and_nothing_personal() {
    let mut scene = Scene::start().await;
    scene.poison().await;
    scene.fail().await;
    let raw = b"{\"from\":\"4915112345678\",\"text\":{\"body\":\"what nobody else may read\"}}";
    let main = account("whatsapp-main");
    let subject = parked::item_subject(chat4all_domain::ChannelKind::WhatsApp, &main);
    let why = "a message without an id";
    park(&scene.node.log, subject, "whatsapp-main", why, raw).await;
    let subject = parked::receipt_subject(chat4all_domain::ChannelKind::WhatsApp, &main, "c0ffee");
    park(
        &scene.node.log,
        subject,
        "whatsapp-main",
        "unknown_message",
        raw,
    )
    .await;

    let query = format!("{{ deadLetters {{ nodes {{ {EVERYTHING} }} }} }}");
    let mut data = scene.world.data("op", DEAD, &query, json!({})).await;
    let shown = data.to_string();
    for personal in ["49151", "nobody else", "Customer"] {
        assert!(!shown.contains(personal), "{shown}");
    }
    // Each is found again by its id, the same.
    for letter in data["deadLetters"]["nodes"].as_array().unwrap() {
        let query = format!("query ($id: ID!) {{ node(id: $id) {{ {EVERYTHING} }} }}");
        let again = scene
            .world
            .data("op", DEAD, &query, json!({ "id": letter["id"] }))
            .await;
        assert_eq!(again["node"], *letter);
    }
    for letter in data["deadLetters"]["nodes"].as_array_mut().unwrap() {
        if letter["kind"] == "PARKED_INBOUND" {
            letter["at"] = "when the broker stored it".into();
        }
    }
    insta::assert_json_snapshot!("dead_letters", data);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lacks_the_scope_is_refused_and_the_message_is_read_by_who_may_read_it() {
    let scene = Scene::with(1, 1, 1).await;
    let own_and_all: &[Scope] = &[Scope::ConversationsRead, Scope::ConversationsReadAll];
    for scopes in [&[], OWN, own_and_all] {
        let (status, answer) = scene.world.ask("op", scopes, LIST, json!({})).await;
        assert_eq!(status, 403, "{answer:#}");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "forbidden");
        assert_eq!(answer["data"], Value::Null);
    }
    let all = scene.page(json!({})).await;
    for id in ids(&all) {
        let node = "query ($id: ID!) { node(id: $id) { id } }";
        let asked = json!({ "id": id });
        let (status, answer) = scene.world.ask("ann", own_and_all, node, asked).await;
        assert_eq!(status, 403, "{answer:#}");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "forbidden");
    }

    let query = "{ deadLetters(kinds: [FAILED_DELIVERY]) { nodes { id ... on FailedDelivery {
        message { content { ... on TextContent { text } } } } } } }";
    let (status, answer) = scene.world.ask("op", DEAD, query, json!({})).await;
    assert_eq!(status, 200, "the list itself is shown: {answer:#}");
    assert_eq!(
        answer["data"]["deadLetters"]["nodes"][0]["message"],
        Value::Null
    );
    assert_eq!(answer["errors"][0]["extensions"]["code"], "forbidden");
    let with = |more: &[Scope]| [DEAD, more].concat();
    let found = async |who: &str, scopes: Vec<Scope>| {
        let mut data = scene.world.data(who, &scopes, query, json!({})).await;
        data["deadLetters"]["nodes"][0]["message"]["content"]["text"].take()
    };
    assert_eq!(
        found("op", with(OWN)).await,
        Value::Null,
        "not a participant"
    );
    let text = "what nobody else may read";
    assert_eq!(found("ann", with(OWN)).await, text);
    assert_eq!(found("op", with(own_and_all)).await, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_both_ways_across_kinds_miss_and_double_nothing_while_others_arrive() {
    let mut scene = Scene::with(7, 9, 11).await;
    let whole = scene.page(json!({ "first": 100 })).await;
    let before = ids(&whole);
    let mut expected = vec!["POISON_EVENT"; 7];
    expected.extend(["PARKED_INBOUND"; 9]);
    expected.extend(["FAILED_DELIVERY"; 11]);
    assert_eq!(kinds(&whole), expected);
    for pair in nodes(&whole).windows(2) {
        let newest_first = pair[0]["at"].as_str() >= pair[1]["at"].as_str();
        assert!(
            newest_first || pair[0]["kind"] != pair[1]["kind"],
            "{pair:?}"
        );
    }
    for size in [2, 5, 27] {
        for forwards in [true, false] {
            let mut seen: Vec<String> = Vec::new();
            let mut cursor = Value::Null;
            let mut arriving = 6;
            loop {
                let arguments = match forwards {
                    true => json!({ "first": size, "after": cursor }),
                    false => json!({ "last": size, "before": cursor }),
                };
                let page = scene.page(arguments).await;
                let info = &page["pageInfo"];
                let (more, next, back) = match forwards {
                    true => ("hasNextPage", "endCursor", "hasPreviousPage"),
                    false => ("hasPreviousPage", "startCursor", "hasNextPage"),
                };
                assert_eq!(info[back], !cursor.is_null(), "{info}");
                cursor = info[next].clone();
                match forwards {
                    true => seen.extend(ids(&page)),
                    false => seen.splice(0..0, ids(&page)).for_each(drop),
                }
                if info[more] == false {
                    break;
                }
                assert_eq!(page["edges"].as_array().unwrap().len(), size);
                // Newer ones of every kind, while somebody reads on; not for ever, or who reads towards them never arrives.
                if arriving == 0 {
                    continue;
                }
                arriving -= 1;
                scene.poison().await;
                park_item(&scene.node.log, "whatsapp-main").await;
                scene.fail().await;
            }
            let once: BTreeSet<&String> = seen.iter().collect();
            assert_eq!(once.len(), seen.len(), "doubled in pages of {size}");
            seen.retain(|id| before.contains(id));
            assert_eq!(seen, before, "pages of {size}, forwards {forwards}");
        }
    }
    // A cursor that nobody handed out names a place all the same: there is nothing beyond the ends.
    let id = scene.room.id;
    for (kind, first, last) in [
        (
            "PARKED_INBOUND",
            format!("parked:{}", u64::MAX),
            "parked:0".to_owned(),
        ),
        (
            "POISON_EVENT",
            format!("poison:{}:63-{}", i64::MAX, u64::MAX),
            format!("poison:{}:00-0", i64::MIN),
        ),
        (
            "FAILED_DELIVERY",
            format!("failed:{}:{id}:{id}:65535", i64::MAX),
            format!("failed:{}:{id}:{id}:0", i64::MIN),
        ),
    ] {
        for (arguments, all) in [
            (json!({ "kinds": [kind], "after": first }), true),
            (json!({ "kinds": [kind], "before": last }), true),
            (json!({ "kinds": [kind], "before": first }), false),
            (json!({ "kinds": [kind], "after": last }), false),
            (
                json!({ "kinds": [kind], "last": 5, "before": first }),
                false,
            ),
            (json!({ "kinds": [kind], "last": 5, "after": last }), false),
        ] {
            let found = ids(&scene.page(arguments.clone()).await);
            assert_eq!(!found.is_empty(), all, "{arguments}");
        }
    }
    // Others first, if somebody wants to see them first; and a cursor keeps its meaning when others were there before it.
    let turned = json!({ "kinds": ["FAILED_DELIVERY", "POISON_EVENT"], "first": 100 });
    let turned = kinds(&scene.page(turned).await);
    assert!(turned.is_sorted(), "{turned:?}");
    assert_eq!(BTreeSet::from_iter(turned).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_what_they_say() {
    let mut scene = Scene::with(2, 2, 3).await;
    park_item(&scene.node.log, "other").await;
    let other = scene.room.sequence;
    scene.fail().await;
    sqlx::query("update deliveries set account = 'other' where last_sequence > $1")
        .bind(other)
        .execute(&mut scene.world.writer)
        .await
        .unwrap();
    let room = scene.room.id.to_string();
    let shown = async |filter: Value| {
        let page = scene.page(json!({ "filter": filter })).await;
        let backwards = json!({ "filter": filter, "last": 100 });
        assert_eq!(ids(&scene.page(backwards).await), ids(&page));
        let count = |kind: &str| kinds(&page).iter().filter(|one| *one == kind).count();
        [
            count("POISON_EVENT"),
            count("PARKED_INBOUND"),
            count("FAILED_DELIVERY"),
        ]
    };
    assert_eq!(shown(json!({})).await, [2, 3, 4]);
    assert_eq!(shown(json!({ "channel": "other" })).await, [0, 1, 1]);
    assert_eq!(
        shown(json!({ "channel": "whatsapp-main" })).await,
        [0, 2, 3]
    );
    assert_eq!(shown(json!({ "conversationId": room })).await, [2, 0, 4]);
    let global = format!("conversation:{room}");
    let both = json!({ "channel": "other", "conversationId": global });
    assert_eq!(shown(both).await, [0, 0, 1]);
    let nobody = "00000000-0000-0000-0000-00000000dead";
    assert_eq!(shown(json!({ "conversationId": nobody })).await, [0, 0, 0]);
    assert_eq!(shown(json!({ "channel": "nobody" })).await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_or_too_much_is_refused_in_clear_words() {
    let scene = Scene::with(1, 1, 1).await;
    let poison = scene.page(json!({ "kinds": ["POISON_EVENT"] })).await;
    let cursor = &poison["pageInfo"]["endCursor"];
    let mut refusals = Vec::new();
    for arguments in [
        "kinds: []".to_owned(),
        "kinds: [POISON_EVENT, POISON_EVENT]".to_owned(),
        "after: \"x\"".to_owned(),
        format!("kinds: [PARKED_INBOUND], before: {cursor}"),
        format!("filter: {{ channel: \"whatsapp-main\" }}, after: {cursor}"),
        "filter: { channel: \"+49 151\" }".to_owned(),
        "filter: { conversationId: \"x\" }".to_owned(),
        "first: 101".to_owned(),
    ] {
        let query = format!("{{ deadLetters({arguments}) {{ nodes {{ id }} }} }}");
        let (status, answer) = scene.world.ask("op", DEAD, &query, json!({})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "validation");
        refusals.push(json!({
            "arguments": arguments.replace(cursor.as_str().unwrap(), "<cursor>"),
            "http": status.as_u16(),
            "message": answer["errors"][0]["message"],
        }));
    }
    let costly = format!("{{ deadLetters(first: 100) {{ nodes {{ {EVERYTHING} }} }} }}");
    let (_, answer) = scene.world.ask("op", DEAD, &costly, json!({})).await;
    refusals.push(
        json!({ "query": "everything of a hundred", "message": answer["errors"][0]["message"] }),
    );
    insta::assert_json_snapshot!("dead_letter_refusals", refusals);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_fifty_costs_as_many_statements_as_a_page_of_one() {
    let scene = Scene::with(3, 3, 60).await;
    let with_message = [DEAD, OWN].concat();
    let query = "query ($first: Int!, $kinds: [DeadLetterKind!]) { deadLetters(first: $first, kinds: $kinds) { nodes {
        id ... on FailedDelivery { message { messageId author { participantId } status } } } } }";
    let cost = async |first: usize, kinds: Value| {
        scene.world.wire.take();
        let variables = json!({ "first": first, "kinds": kinds });
        let data = scene
            .world
            .data("ann", &with_message, query, variables)
            .await;
        let found = data["deadLetters"]["nodes"].as_array().unwrap().len();
        assert_eq!(found, first);
        scene.world.wire.take().len()
    };
    let failed = json!(["FAILED_DELIVERY"]);
    // The list, the messages, their authors, their tallies.
    assert_eq!(cost(1, failed.clone()).await, 4);
    assert_eq!(cost(50, failed).await, 4);
    // One statement more for the events.
    assert_eq!(cost(50, Value::Null).await, 5);

    // The same by their ids, many in one query.
    let page = scene.page(json!({ "first": 40 })).await;
    let fields: Vec<String> = (0..)
        .zip(ids(&page))
        .map(|(n, id)| format!("n{n}: node(id: \"{id}\") {{ id }}"))
        .collect();
    scene.world.wire.take();
    let query = format!("{{ {} }}", fields.join(" "));
    let data = scene.world.data("op", DEAD, &query, json!({})).await;
    assert!(
        data.as_object()
            .unwrap()
            .values()
            .all(|node| node.is_object())
    );
    assert_eq!(scene.world.wire.take().len(), 2, "events, and deliveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_whose_store_is_away_is_left_out_and_said_and_nothing_else_fails() {
    let mut scene = Scene::with(1, 2, 3).await;
    let whole = ids(&scene.page(json!({})).await);
    let parked = whole[1].clone();
    let inside = scene
        .page(json!({ "kinds": ["PARKED_INBOUND"], "first": 1 }))
        .await;
    let inside = inside["pageInfo"]["endCursor"].clone();
    for hangs in [true, false] {
        match hangs {
            true => scene.node.nats.suspend().await,
            false => scene.node.nats.kill().await,
        }
        let without_parked = async || scene.world.ask("op", DEAD, LIST, json!({})).await;
        // What was said a moment before a connection breaks may still come.
        let (status, answer) = until(without_parked, |(_, seen)| seen["errors"].is_array()).await;
        assert_eq!(status, 200, "{answer:#}");
        let expected = [&whole[..1], &whole[3..]].concat();
        assert_eq!(ids(&answer["data"]["deadLetters"]), expected);
        let errors = answer["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{answer:#}");
        assert_eq!(errors[0]["extensions"]["code"], "unavailable");
        assert_eq!(errors[0]["extensions"]["left_out"], "PARKED_INBOUND");
        assert_eq!(errors[0]["path"], json!(["deadLetters"]));

        // Where nothing else was asked for, or the page begins within it, there is no answer.
        for arguments in [
            json!({ "kinds": ["PARKED_INBOUND"] }),
            json!({ "after": inside }),
        ] {
            let (status, answer) = scene.world.ask("op", DEAD, LIST, arguments).await;
            assert_eq!(status, 503, "{answer:#}");
            assert_eq!(answer["errors"][0]["extensions"]["code"], "unavailable");
            assert_eq!(answer["data"], Value::Null);
        }
        let node = "query ($id: ID!) { node(id: $id) { id } }";
        let asked = json!({ "id": parked });
        let (status, answer) = scene.world.ask("op", DEAD, node, asked).await;
        assert_eq!(status, 503, "{answer:#}");
        // Pages that need nothing of it do not notice.
        let others = scene
            .page(json!({ "kinds": ["FAILED_DELIVERY", "POISON_EVENT"] }))
            .await;
        assert_eq!(others["edges"].as_array().unwrap().len(), 4);
        let (status, _) = scene.world.rest("ann", OWN, "/v1/conversations").await;
        assert_eq!(status, 200);
        match hangs {
            true => scene.node.nats.resume(),
            false => scene.node.nats.restart().await.unwrap(),
        }
        let back = async || scene.world.ask("op", DEAD, LIST, json!({})).await.1;
        let answer = until(back, |seen| seen["errors"].is_null()).await;
        assert_eq!(ids(&answer["data"]["deadLetters"]), whole);
    }

    // The other way round.
    scene.world.postgres.stop().await.unwrap();
    let began = std::time::Instant::now();
    let (status, answer) = scene.world.ask("op", DEAD, LIST, json!({})).await;
    assert_eq!(status, 200, "{answer:#}");
    assert_eq!(ids(&answer["data"]["deadLetters"]), whole[1..3]);
    let left_out: Vec<&Value> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["extensions"]["left_out"])
        .collect();
    assert_eq!(left_out, ["POISON_EVENT", "FAILED_DELIVERY"]);
    assert!(
        began.elapsed() < ACQUIRE + STATEMENT * 2,
        "{:?}",
        began.elapsed()
    );
    scene.node.nats.kill().await;
    let nothing = async || scene.world.ask("op", DEAD, LIST, json!({})).await;
    let (status, answer) = until(nothing, |(status, _)| *status == 503).await;
    assert_eq!((status.as_u16(), &answer["data"]), (503, &Value::Null));
}

/// However many there are and however rare what is asked for: no table is read from end to end, nor sorted.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_scans_the_deliveries_or_the_events() {
    let mut scene = Scene::with(1, 0, 1).await;
    let db = &mut scene.world.writer;
    let fill = "insert into deliveries (conversation_id, message_id, n, partition, kind, account, participant_id, status,
            generation, first_attempt, attempts, failed_at, failure_class, failure_reason, last_sequence)
        select gen_random_uuid(), gen_random_uuid(), 0, 7, 'whatsapp', 'whatsapp-' || i % 5, gen_random_uuid(),
            case when i % 4 = 0 then 'FAILED' else 'SENT' end, 0, 0, 1,
            case when i % 4 = 0 then timestamptz '2025-11-22' + i * interval '1 second' end,
            case when i % 4 = 0 then 'PERMANENT' end, case when i % 4 = 0 then 'UNKNOWN' end, i
        from generate_series(1, 60000) as i";
    let poison = "insert into projector_dead_letter (partition, sequence, subject, error, payload, recorded_at)
        select i % 8, 1000 + i, 'chat.evt.07.planet', 'unknown', '', timestamptz '2025-11-22' + i * interval '1 second'
        from generate_series(1, 20000) as i";
    for statement in [
        fill,
        poison,
        "analyze deliveries",
        "analyze projector_dead_letter",
    ] {
        sqlx::query(statement).execute(&mut *db).await.unwrap();
    }
    sqlx::query("select pg_stat_force_next_flush()")
        .execute(&mut *db)
        .await
        .unwrap();
    let filled = |rows: &Vec<Scans>| rows.iter().all(|table| table.whole > 0);
    let scanned = until(|| scans(&scene.world), filled).await;
    let room = scene.room.id.to_string();
    let end = scene
        .page(json!({ "kinds": ["FAILED_DELIVERY"], "last": 1 }))
        .await;
    let before =
        json!({ "kinds": ["FAILED_DELIVERY"], "last": 3, "before": end["pageInfo"]["endCursor"] });
    for (arguments, expected) in [
        (json!({ "kinds": ["FAILED_DELIVERY"] }), 50),
        (json!({ "kinds": ["POISON_EVENT"], "last": 100 }), 100),
        (before, 3),
        (json!({ "filter": { "channel": "whatsapp-main" } }), 1),
        (
            json!({ "filter": { "channel": "whatsapp-4" }, "last": 20 }),
            20,
        ),
        (json!({ "filter": { "channel": "nobody" } }), 0),
        (json!({ "filter": { "conversationId": room } }), 2),
        (
            json!({ "filter": { "conversationId": room, "channel": "nobody" } }),
            0,
        ),
    ] {
        let page = scene.page(arguments.clone()).await;
        let found = page["edges"].as_array().unwrap().len();
        assert_eq!(found, expected, "{arguments}");
    }
    // Connections tell the server what they did at the latest when they end.
    scene.world.pool.close().await;
    let rose = |rows: &Vec<Scans>| {
        let mut pairs = rows.iter().zip(&scanned);
        pairs.all(|(after, before)| after.by_index >= before.by_index + 6)
    };
    let after = until(|| scans(&scene.world), rose).await;
    for (after, before) in after.iter().zip(&scanned) {
        let table = &after.table;
        assert_eq!(
            after.whole, before.whole,
            "{table} was read from end to end"
        );
        let rows = after.rows - before.rows;
        println!("{rows} rows of {table} were read");
        assert!(
            rows < 1_500,
            "{rows} rows of {table} were read, for 177 that were shown"
        );
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Scans {
    table: String,
    whole: i64,
    by_index: i64,
    rows: i64,
}

/// What was done to the tables so far, as far as the server has been told.
async fn scans(world: &World) -> Vec<Scans> {
    let look = "select relname::text as table, coalesce(seq_scan, 0) as whole, coalesce(idx_scan, 0) as by_index,
            coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as rows
        from pg_stat_user_tables where relname in ('deliveries', 'projector_dead_letter') order by 1";
    let url = world.postgres.url();
    let mut db = <sqlx::PgConnection as sqlx::Connection>::connect(&url)
        .await
        .unwrap();
    sqlx::query_as(look).fetch_all(&mut db).await.unwrap()
}

/// A database that was there before this release: what its rows can tell, they tell.
#[tokio::test(flavor = "multi_thread")]
async fn the_migration_finds_the_conversations_of_events_that_were_parked_before() {
    let mut scene = Scene::start().await;
    let db = &mut scene.world.writer;
    let room = scene.room.id;
    let down = "drop index projector_dead_letter_by_time, projector_dead_letter_by_conversation,
        deliveries_failed_by_account, deliveries_failed_by_conversation";
    sqlx::query(down).execute(&mut *db).await.unwrap();
    sqlx::query(
        "alter table projector_dead_letter drop column event_types, drop column conversation_id",
    )
    .execute(&mut *db)
    .await
    .unwrap();
    sqlx::query("delete from _sqlx_migrations where version = 2")
        .execute(&mut *db)
        .await
        .unwrap();
    let subjects = [
        format!("chat.evt.07.conversation.{room}"),
        format!("chat.evt.07.message.{room}.{room}"),
        format!("chat.evt.07.delivery.whatsapp.{room}.{room}"),
        format!("chat.evt.07.reader.{room}.{room}"),
        format!("chat.evt.07.identity.{room}"),
        format!("chat.evt.07.planet.{room}"),
        format!("chat.evt.07.message.{room}.{room}.more"),
        format!("chat.evt.07.message.{room}"),
        format!("chat.evt.07.conversation.{room}.{room}"),
        format!("chat.evt.07.delivery.fax.{room}.{room}"),
        "chat.evt.07.message.x.y".to_owned(),
    ];
    for (sequence, subject) in (1_i64..).zip(&subjects) {
        sqlx::query("insert into projector_dead_letter values (7, $1, $2, 'unknown', '', $3)")
            .bind(sequence)
            .bind(subject)
            .bind(at(sequence))
            .execute(&mut *db)
            .await
            .unwrap();
    }
    let config = chat4all_postgres::Config::new(
        &scene.world.postgres.url(),
        chat4all_postgres::Schema::default(),
        "migrate",
    );
    chat4all_postgres::migrate::migrate(&config.unwrap())
        .await
        .unwrap();
    let rows: Vec<(String, Option<uuid::Uuid>)> = sqlx::query_as(
        "select subject, conversation_id from projector_dead_letter order by sequence",
    )
    .fetch_all(&mut *db)
    .await
    .unwrap();
    for (subject, conversation) in &rows {
        // As the projector does from now on.
        let expected = chat4all_nats::subject::conversation(subject).map(|id| id.uuid());
        assert_eq!(*conversation, expected, "{subject}");
    }
    assert_eq!(rows.iter().filter(|row| row.1.is_some()).count(), 4);
}
