use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::server::{Server, client};

/// A route whose answer waits for the test.
fn held() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, released) = (Arc::clone(&entered), Arc::clone(&release));
    let route = get(move || async move {
        enter.notify_one();
        released.notified().await;
        "finished"
    });
    (Router::new().route("/held", route), entered, release)
}

async fn ended(server: &mut Server) {
    let ended = timeout(Duration::from_secs(10), server.served.join_next()).await;
    ended
        .expect("the server ends within 10 s")
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_soft_stop_answers_what_has_come_in_and_takes_nothing_new() {
    let (routes, entered, release) = held();
    let mut server = Server::start(routes).await;
    let mut requests = JoinSet::new();
    requests.spawn(client().get(server.url("/held")).send());
    entered.notified().await;
    server.shutdown.stop();
    // The listener goes when the server has heard; until then a connection may still be taken.
    let refused = async { while client().get(server.url("/livez")).send().await.is_ok() {} };
    timeout(Duration::from_secs(5), refused)
        .await
        .expect("new connections are refused within 5 s");
    release.notify_one();
    let answer = requests.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "finished");
    ended(&mut server).await;
}

#[tokio::test]
async fn a_hard_stop_drops_what_is_left() {
    let (routes, entered, _release) = held();
    let mut server = Server::start(routes).await;
    let mut requests = JoinSet::new();
    requests.spawn(client().get(server.url("/held")).send());
    entered.notified().await;
    server.shutdown.stop();
    server.shutdown.hard().cancel();
    ended(&mut server).await;
}
