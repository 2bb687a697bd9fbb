//! nats-server and Postgres as children of ours.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use chat4all_cli::embedded::{
    ClusterOptions, Nats, NatsCluster, NatsOptions, Postgres, PostgresOptions, StartError,
    children_of, is_running, temp_dir, user_of,
};
use sqlx::{Connection as _, PgConnection};

use super::{PATIENCE, publish, published, start_postgres, wait_until_gone};

const NOBODY: u32 = 65_534;

#[tokio::test]
async fn nats_starts_and_stops_and_leaves_no_process() {
    let dir = temp_dir().unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let pid = nats.pid().unwrap();
    publish(&nats.url(), "hello", 1).await;
    nats.stop().await.unwrap();
    assert!(!is_running(pid));
    assert_eq!(nats.pid(), None);
}

#[tokio::test]
async fn nats_takes_eight_mebibytes_and_syncs_always() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    assert_eq!(client.server_info().max_payload, 8 * 1024 * 1024);
    let page = reqwest::get(format!("{}/varz", nats.monitor_url()))
        .await
        .unwrap();
    let page: serde_json::Value = page.json().await.unwrap();
    assert_eq!(page["jetstream"]["config"]["sync_always"], true);
}

#[tokio::test]
async fn nats_killed_and_restarted_has_its_data_and_its_port() {
    let dir = temp_dir().unwrap();
    let mut nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let (url, pid) = (nats.url(), nats.pid().unwrap());
    publish(&url, "kept", 1).await;
    nats.kill().await;
    assert!(!is_running(pid));
    nats.restart().await.unwrap();
    assert_eq!(nats.url(), url);
    assert_eq!(published(&url, 1).await, "kept");
}

#[tokio::test]
async fn a_suspended_nats_is_silent_until_resumed() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    nats.suspend().await;
    let asked = tokio::time::timeout(Duration::from_millis(300), jetstream.query_account()).await;
    assert!(asked.is_err(), "a suspended server answered {asked:?}");
    nats.resume();
    jetstream.query_account().await.unwrap();
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let dir = temp_dir().unwrap();
    let nats = Nats::start(NatsOptions::in_dir(dir.path().join("n")))
        .await
        .unwrap();
    let postgres = start_postgres(&dir.path().join("p")).await;
    let mut pids = vec![nats.pid().unwrap(), postgres.pid().unwrap()];
    pids.extend(children_of(postgres.pid().unwrap()));
    assert!(pids.len() > 2, "Postgres has children of its own: {pids:?}");
    drop((nats, postgres));
    wait_until_gone(&pids);
}

#[tokio::test]
async fn a_directory_serves_one_server_at_a_time() {
    let dir = temp_dir().unwrap();
    let _first = Nats::start(NatsOptions::in_dir(dir.path())).await.unwrap();
    let second = Nats::start(NatsOptions::in_dir(dir.path())).await;
    assert!(
        matches!(second, Err(StartError::DirectoryInUse { .. })),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_cluster_forms_loses_its_leader_and_goes_on() {
    let dir = temp_dir().unwrap();
    let mut cluster = NatsCluster::start(ClusterOptions::in_dir(dir.path()))
        .await
        .unwrap();
    let url = cluster.url();
    let servers: Vec<&str> = url.split(',').collect();
    publish(&url, "first", 3).await;
    let jetstream = jetstream::new(async_nats::connect(servers.as_slice()).await.unwrap());
    let mut stream = jetstream.get_stream("T").await.unwrap();
    let leader = stream
        .info()
        .await
        .unwrap()
        .cluster
        .clone()
        .unwrap()
        .leader
        .unwrap();
    let leader = cluster.index_of(&leader).unwrap();
    cluster.node(leader).kill().await;

    let deadline = Instant::now() + PATIENCE;
    loop {
        let stored = match jetstream.publish("t", "second".into()).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(ack) => break assert!(ack.sequence >= 2),
            Err(error) => assert!(Instant::now() < deadline, "no new leader: {error}"),
        }
    }
    cluster.node(leader).restart().await.unwrap();
    cluster.formed().await.unwrap();
    assert_eq!(
        published(cluster.nodes()[leader].url().as_str(), 2).await,
        "second"
    );
}

#[tokio::test]
async fn postgres_killed_and_restarted_has_its_data_and_its_port() {
    let dir = temp_dir().unwrap();
    let options = PostgresOptions::in_dir(dir.path());
    let mut postgres = Postgres::start(options).await.unwrap();
    let url = postgres.url();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("create table t (n int); insert into t values (7)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut pids = children_of(postgres.pid().unwrap());
    pids.push(postgres.pid().unwrap());
    postgres.kill().await;
    assert!(
        pids.iter().all(|&pid| !is_running(pid)),
        "of {pids:?} some still run"
    );

    postgres.restart().await.unwrap();
    assert_eq!(postgres.url(), url);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let n: i32 = sqlx::query_scalar("select n from t")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
async fn postgres_stops_although_somebody_is_connected() {
    let dir = temp_dir().unwrap();
    let mut postgres = start_postgres(dir.path()).await;
    let _connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut pids = children_of(postgres.pid().unwrap());
    pids.push(postgres.pid().unwrap());
    postgres.stop().await.unwrap();
    wait_until_gone(&pids);
}

#[tokio::test]
async fn a_suspended_postgres_keeps_connections_silent_until_resumed() {
    let dir = temp_dir().unwrap();
    let postgres = start_postgres(dir.path()).await;
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    postgres.suspend().await;
    let query = sqlx::query_scalar("select 7").fetch_one(&mut connection);
    tokio::pin!(query);
    let asked = tokio::time::timeout(Duration::from_millis(300), &mut query).await;
    assert!(asked.is_err(), "a suspended server answered {asked:?}");
    postgres.resume();
    let answer: i32 = query.await.unwrap();
    assert_eq!(answer, 7);
}

#[tokio::test]
async fn as_root_postgres_runs_as_nobody_and_otherwise_as_ourselves() {
    let dir = temp_dir().unwrap();
    let postgres = start_postgres(dir.path()).await;
    let own = rustix::process::geteuid();
    let expected = if own.is_root() { NOBODY } else { own.as_raw() };
    assert_eq!(user_of(postgres.pid().unwrap()), Some(expected));
}

#[tokio::test]
async fn postgres_runs_although_its_directory_is_closed_to_nobody() {
    let dir = temp_dir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let wanted = dir.path().join("p");
    let postgres = start_postgres(&wanted).await;
    PgConnection::connect(&postgres.url()).await.unwrap();
    drop(postgres);
    if rustix::process::geteuid().is_root() {
        let place = std::fs::read_link(wanted.join("data")).unwrap();
        assert!(place.starts_with("/var/tmp"), "{place:?}");
        // It comes back to the same place.
        let again = start_postgres(&wanted).await;
        PgConnection::connect(&again.url()).await.unwrap();
        drop(again);
        std::fs::remove_dir_all(place.parent().unwrap()).unwrap();
    }
}
