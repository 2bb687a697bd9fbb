//! Postgres goes away and comes back: reads say so soon, and go on by themselves.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rows::Room;
use super::world::{ACQUIRE, OWN, STATEMENT, World};

/// What a client may have to wait to hear that Postgres is away: for a connection and for a statement, and some.
const SOON: Duration =
    Duration::from_millis(ACQUIRE.as_millis() as u64 + STATEMENT.as_millis() as u64 + 2_000);

/// Where a connection is refused there is nothing to wait for. Half of what the pool would wait.
const AT_ONCE: Duration = Duration::from_millis(ACQUIRE.as_millis() as u64 / 2);

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_stopped_reads_are_503_at_once_and_then_go_on() {
    let mut world = World::new().await;
    let room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    assert_up(&world, &room).await;
    world.postgres.stop().await.unwrap();
    // The first ones find out on connections that they had.
    assert_away(&world, &room).await;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let path = format!("/v1/conversations/{}", room.id);
        let (status, answer) = world.rest("ann", OWN, &path).await;
        assert_eq!(status, 503, "{answer:#}");
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < AT_ONCE, "the fastest of five took {fastest:?}");
    world.postgres.restart().await.unwrap();
    back(&world, &room).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_hangs_reads_are_503_and_then_go_on() {
    let mut world = World::new().await;
    let room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    assert_up(&world, &room).await;
    world.postgres.suspend().await;
    // More than the pool has connections, twice: what hangs must not use it up.
    for _ in 0..2 {
        let many = (0..12).map(|_| assert_away(&world, &room));
        futures::future::join_all(many).await;
    }
    world.postgres.resume();
    back(&world, &room).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_there_are_tables_reads_are_503() {
    let mut world = World::new().await;
    let room = Room::start(&mut world.writer, 1, 1, &["ann"]).await;
    sqlx::query("alter schema chat4all rename to elsewhere")
        .execute(&mut world.writer)
        .await
        .unwrap();
    assert_away(&world, &room).await;
    sqlx::query("alter schema elsewhere rename to chat4all")
        .execute(&mut world.writer)
        .await
        .unwrap();
    assert_up(&world, &room).await;
}

const QUERY: &str = "query ($id: ID!) { conversation(id: $id) { title } }";

async fn assert_up(world: &World, room: &Room) {
    let variables = json!({ "id": room.id.to_string() });
    let data = world.data("ann", OWN, QUERY, variables).await;
    assert_eq!(data["conversation"]["title"], "Order 1");
}

async fn assert_away(world: &World, room: &Room) {
    let started = Instant::now();
    let variables = json!({ "id": room.id.to_string() });
    let (status, answer) = world.ask("ann", OWN, QUERY, variables).await;
    assert_eq!(status, 503, "{answer:#}");
    assert_eq!(answer["errors"][0]["extensions"]["code"], "unavailable");
    assert!(
        started.elapsed() < SOON,
        "GraphQL took {:?}",
        started.elapsed()
    );
    let started = Instant::now();
    let path = format!("/v1/conversations/{}", room.id);
    let answer = world.get("ann", OWN, &path).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["code"], "unavailable");
    assert!(
        started.elapsed() < SOON,
        "REST took {:?}",
        started.elapsed()
    );
}

async fn back(world: &World, room: &Room) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let path = format!("/v1/conversations/{}", room.id);
    loop {
        let (status, answer) = world.rest("ann", OWN, &path).await;
        if status == 200 {
            return;
        }
        assert_eq!(status, 503, "never anything else: {answer:#}");
        assert!(Instant::now() < deadline, "last seen: {answer:#}");
    }
}
