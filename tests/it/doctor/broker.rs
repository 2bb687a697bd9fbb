//! A broker that does not let us in, or that a log should not be kept on.

use async_nats::jetstream;
use bytes::Bytes;
use chat4all_cli::embedded::{Nats, NatsOptions, temp_dir};
use tokio::task::block_in_place;

use super::said::{Said, Variables, doctor, on, with};
use super::server::Server;

/// What nats/nats-server.conf says of these, for tests in which something else is wrong.
const MAX_PAYLOAD: &str = "max_payload: 8MB";
const JETSTREAM: &str = "jetstream {\n  store_dir: \"streams\"\n  sync_interval: always\n}";

fn ask(variables: &Variables) -> Said {
    block_in_place(|| doctor(variables, &["--only", "broker"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_write_or_has_no_log_is_named() {
    let dir = temp_dir().unwrap();
    let mut options = NatsOptions::in_dir(dir.path());
    "2m".clone_into(&mut options.sync_interval);
    let nats = Nats::start(options).await.unwrap();
    let variables = on(nats.url(), nats.monitor_url());
    let arguments = ["--only", "broker", "--only", "log"];
    let said = block_in_place(|| doctor(&variables, &arguments));
    said.has(
        "wrong",
        "broker",
        "acknowledges before it has written to disk",
        "NATS_SYNC_INTERVAL=always",
    );
    said.has(
        "wrong",
        "log",
        "not on the broker: EVT-00, EVT-01",
        "chat4all provision",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_who_we_are_is_named_and_no_password_is_repeated() {
    let login = "authorization { user: \"chat4all\", password: \"the right one\" }";
    let server = Server::start(&format!("{MAX_PAYLOAD}\n{JETSTREAM}\n{login}")).await;
    let nobody = server.variables();
    let user = with(&nobody, "CHAT4ALL_NATS__USER", "chat4all");
    let right = with(&user, "CHAT4ALL_NATS__PASSWORD", "the right one");
    let wrong = with(&user, "CHAT4ALL_NATS__PASSWORD", "a wrong one");
    ask(&right).is_well();

    let refuses = format!("NATS on {} refuses the connection", server.place());
    let said = ask(&wrong);
    said.has("wrong", "broker", &refuses, "CHAT4ALL_NATS__PASSWORD");
    let all = said.answer.to_string();
    assert!(!all.contains("a wrong one"), "a secret is repeated: {all}");
    assert!(!all.contains("is nats-server up there?"), "it is: {all}");
    ask(&nobody).has("wrong", "broker", &refuses, "CHAT4ALL_NATS__USER");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_that_cannot_be_read_is_named_and_why() {
    let dir = temp_dir().unwrap();
    let file = dir.path().join("nats.creds");
    // It is read before anybody is asked.
    let nobody = on("nats://127.0.0.1:1".into(), "http://127.0.0.1:1".into());
    let name = "CHAT4ALL_NATS__CREDENTIALS_FILE";
    let variables = with(&nobody, name, file.to_str().unwrap());
    let says = "the credentials file of NATS cannot be read: ";
    let said = ask(&variables);
    said.has("wrong", "broker", says, name);
    let all = said.answer.to_string();
    assert!(all.contains("No such file or directory"), "{all}");

    // It is there, and holds something else.
    std::fs::write(&file, "something else\n").unwrap();
    let said = ask(&variables);
    said.has("wrong", "broker", says, name);
    let all = said.answer.to_string();
    assert!(!all.contains("No such file or directory"), "{all}");
    assert!(!all.contains("something else"), "a secret is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_only_small_messages_is_named() {
    let server = Server::start(&format!("max_payload: 1048576\n{JETSTREAM}")).await;
    let says = format!(
        "NATS on {} takes messages of 1048576 bytes at most",
        server.place()
    );
    let said = ask(&server.variables());
    said.has("wrong", "broker", &says, "max_payload: 8MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_keep_a_log_is_named() {
    let server = Server::start(MAX_PAYLOAD).await;
    let arguments = ["--only", "broker", "--only", "log"];
    let said = block_in_place(|| doctor(&server.variables(), &arguments));
    said.has(
        "wrong",
        "broker",
        "runs without JetStream",
        "nats/nats-server.conf",
    );
    said.has(
        "wrong",
        "log",
        "the broker did not answer for EVT-00",
        "nats server report jetstream",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_room_is_nearly_used_up_is_named() {
    let dir = temp_dir().unwrap();
    let mut options = NatsOptions::in_dir(dir.path());
    "16MB".clone_into(&mut options.max_file);
    let nats = Nats::start(options).await.unwrap();
    let variables = on(nats.url(), nats.monitor_url());
    ask(&variables).is_well();

    let client = async_nats::connect(nats.url()).await.unwrap();
    let js = jetstream::new(client);
    let filler = jetstream::stream::Config {
        name: "FILLER".into(),
        subjects: vec!["filler".into()],
        ..Default::default()
    };
    js.create_stream(filler).await.unwrap();
    // 15,000,000 of 16,777,216 bytes.
    for _ in 0..15 {
        let message = Bytes::from(vec![b'x'; 1_000_000]);
        js.publish("filler", message).await.unwrap().await.unwrap();
    }
    let said = ask(&variables);
    said.has(
        "wrong",
        "broker",
        "has used 89 % of what it may keep",
        "NATS_MAX_FILE",
    );
}
