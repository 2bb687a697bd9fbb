//! What is refused, and in which words.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rows::{Room, fold, position};
use super::world::{OWN, World};

const INTROSPECTION: &str = "query { __schema { types { name kind fields(includeDeprecated: true) {
    name type { ...t } args { name type { ...t } } } possibleTypes { ...t } enumValues { name } } } }
    fragment t on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
        ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_or_wrong_is_refused_in_clear_words() {
    let world = World::new().await;
    let deep = "{ conversations(first: 1) { nodes { messages(first: 1) { nodes { conversation { messages(first: 1) {
        nodes { conversation { messages(first: 1) { nodes { conversation { lastMessage { id } } } } } } } } } } } } }";
    let wide = "{ conversations(first: 100) { nodes { messages(first: 100) { nodes { id } } } } }";
    let both = "{ conversations(first: 1, last: 1) { nodes { id } } }";
    let mut refusals = Vec::new();
    for query in [
        deep,
        wide,
        both,
        "{ conversations(first: 101) { nodes { id } } }",
        "{ conversations(after: \"x\") { nodes { id } } }",
        "{ conversation(id: \"x\") { id } }",
        "{ conversations(atLeast: \"x\") { nodes { id } } }",
        "{ nothing }",
        "{ conversations {",
        "mutation { x }",
    ] {
        let (status, mut answer) = world.ask("ann", OWN, query, json!({})).await;
        for error in answer["errors"].as_array_mut().unwrap() {
            error["extensions"]
                .as_object_mut()
                .unwrap()
                .remove("trace_id");
        }
        refusals
            .push(json!({ "query": query, "http": status.as_u16(), "errors": answer["errors"] }));
    }
    insta::assert_json_snapshot!("refusals", refusals);

    let (status, answer) = world.ask("ann", OWN, INTROSPECTION, json!({})).await;
    assert_eq!((status.as_u16(), answer.get("errors")), (200, None));
    // The schema's depth does not open a way in for data.
    let smuggled = deep.replacen('{', "{ __schema { types { name } } ", 1);
    let (_, answer) = world.ask("ann", OWN, &smuggled, json!({})).await;
    assert_eq!(answer["data"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_refuses_with_the_same_codes() {
    let mut world = World::new().await;
    let room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    let mut refusals = Vec::new();
    for path in [
        "/v1/conversations?first=0".to_owned(),
        "/v1/conversations?first=x".to_owned(),
        "/v1/conversations?page=2".to_owned(),
        "/v1/conversations?at_least=x".to_owned(),
        "/v1/conversations/x".to_owned(),
        format!("/v1/conversations/{}/messages?first=1&last=1", room.id),
        format!("/v1/conversations/{}/messages?after=06-1", room.id),
    ] {
        let (status, mut problem) = world.rest("ann", OWN, &path).await;
        problem.as_object_mut().unwrap().remove("trace_id");
        refusals.push(json!({ "path": path, "http": status.as_u16(), "problem": problem }));
    }
    insta::assert_json_snapshot!("rest_refusals", refusals);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_waits_for_the_projector_and_not_for_ever() {
    let mut world = World::new().await;
    let room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    fold(&mut world.writer, 1, 10).await;
    let query = "query ($id: ID!, $p: Position) { conversation(id: $id, atLeast: $p) { id } }";
    let at = |sequence| json!({ "id": room.id.to_string(), "p": position(sequence) });
    world.data("ann", OWN, query, at(10)).await;

    // Many wait for the same, share the looks, and go on when it is there.
    world.wire.take();
    let started = Instant::now();
    let waiting = futures::future::join_all((0..20).map(|_| world.data("ann", OWN, query, at(11))));
    let mut writer = second_writer(&world).await;
    let folding = async {
        // They wait indeed: they have looked, and looked again.
        while world.wire.seen() < 20 {
            assert!(
                started.elapsed() < Duration::from_secs(4),
                "nobody looks again"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fold(&mut writer, 11, 11).await;
    };
    let (answers, ()) = futures::join!(waiting, folding);
    let took = started.elapsed();
    assert!(answers.iter().all(|data| !data["conversation"].is_null()));
    let looks = world.wire.take().len() - 20;
    let shared = 20 + took.as_millis() as usize / 5 + 20;
    assert!(
        looks <= shared,
        "20 waiters made {looks} looks in {took:?}: one in 5 ms would do"
    );

    let started = Instant::now();
    let (status, answer) = world.ask("ann", OWN, query, at(12)).await;
    let took = started.elapsed();
    assert_eq!(status, 503, "{answer:#}");
    assert_eq!(
        answer["errors"][0]["extensions"]["code"],
        "not_yet_projected"
    );
    assert_eq!(answer["errors"][0]["extensions"]["position"], position(11));
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(7),
        "{took:?}"
    );

    let path = format!("/v1/conversations/{}?at_least={}", room.id, position(12));
    let answer = world.get("ann", OWN, &path).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "not_yet_projected");
    assert_eq!(problem["position"], position(11));
}

async fn second_writer(world: &World) -> sqlx::PgConnection {
    let config = chat4all_postgres::Config::new(
        &world.postgres.url(),
        chat4all_postgres::Schema::default(),
        "second writer",
    );
    config.unwrap().connect().await.unwrap()
}
