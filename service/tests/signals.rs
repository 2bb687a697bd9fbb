//! Real signals stop a role; a process of its own, because signals are for all of it.

use std::io;
use std::process::Command;
use std::time::Duration;

use chat4all_service::shutdown::{Outcome, run};

fn send_myself(signal: &str) {
    let myself = std::process::id().to_string();
    let sent = Command::new("kill").args([signal, &myself]).status();
    assert!(sent.expect("`kill` is there on any Unix").success());
}

#[tokio::test]
async fn sigterm_is_soft_and_a_second_signal_is_hard() {
    let soft = run("test", Duration::from_secs(60), |shutdown| async move {
        send_myself("-TERM");
        shutdown.soft().cancelled().await;
        assert!(!shutdown.hard().is_cancelled());
        io::Result::Ok(())
    });
    assert_eq!(soft.await, Outcome::Clean);
    let hard = run("test", Duration::from_secs(60), |shutdown| async move {
        send_myself("-TERM");
        shutdown.soft().cancelled().await;
        send_myself("-INT");
        shutdown.hard().cancelled().await;
        io::Result::Ok(())
    });
    assert_eq!(hard.await, Outcome::Forced);
}
