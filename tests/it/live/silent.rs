//! Connections on which nothing happens: thin clients are asked whether they are there, and those that do not answer are let go.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Came, Socket};
use super::of_users;
use crate::journeys::system::{System, text};

/// Nothing was heard from a client for this long: it is gone.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// They are asked every 25 s, so the third time is too late; and the last words may take two.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often who is there is asked while the other one is waited for.
const ASKED: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thin_client_is_asked_whether_it_is_there_and_one_that_never_answers_is_let_go() {
    let system = System::start();
    let ana = system.full("ana");
    let group = of_users(&system, &ana).await;
    let path = format!("/v1/notifications?token={ana}");
    let begun = Instant::now();
    let mut there = Socket::open(&system, &path, None).await.unwrap();
    let mut silent = Socket::open(&system, &path, None).await.unwrap();
    for thin in [&mut there, &mut silent] {
        assert!(matches!(thin.next().await, Came::Frame(frame) if frame["type"] == "connected"));
    }
    // It answers as every WebSocket does, while it waits for what comes.
    let answering = async {
        for _ in 0..ASKED {
            assert_eq!(there.next().await, Came::Frame(json!({"type": "ping"})));
            there.say(&json!({"type": "pong"})).await;
        }
    };
    let ((), bytes) = futures::join!(answering, silent.silent_to_the_end(PATIENCE));
    let waited = begun.elapsed();
    assert!(waited >= SILENT_FOR, "let go after {waited:?}");

    // Asked twice, by the protocol and by a frame, and then told why it ends.
    let asked = [frame(0x89, b""), frame(0x81, br#"{"type":"ping"}"#)].concat();
    let reason = [&1001_u16.to_be_bytes()[..], b"Nothing was heard from you."].concat();
    let expected = [asked.clone(), asked, frame(0x88, &reason)].concat();
    let said = String::from_utf8_lossy(&bytes);
    assert_eq!(bytes, expected, "{said}");

    // The other one is still told what happens.
    let hello = text(&group, "hello");
    let said = system.posted(&ana, "/v1/messages", &hello, 202).await;
    loop {
        let Came::Frame(frame) = there.next().await else {
            panic!("who answers was let go, too");
        };
        if frame["type"] != "ping" {
            assert_eq!(frame["type"], "new_message");
            assert_eq!(frame["message_id"], said["message_id"]);
            return;
        }
    }
}

/// A short frame as a server sends it, RFC 6455 §5.2.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126, "longer ones have another form");
    [&[head, length][..], payload].concat()
}
