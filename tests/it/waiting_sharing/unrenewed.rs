//! A broker that stands still for longer than leases are believed: whoever has some says so.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::site::{PATIENCE, SHARED, reached};
use crate::guarantees::system::System;
use crate::support::up::send;

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_renew_says_once_which_leases_stand_still_and_goes_on_afterwards() {
    let system = System::split().await;
    let broker = system.process("nats-server").unwrap();
    send(broker, Signal::STOP);
    let told = async || SHARED.map(|shared| told(&system, shared));
    let all = |told: &[Vec<String>; 4]| told.iter().all(|lines| !lines.is_empty());
    reached("all of them say so", PATIENCE, told, all).await;
    // It is looked at every second: what is said once is not said again.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        for (shared, lines) in SHARED.iter().zip(told().await) {
            assert_eq!(lines.len(), 1, "{shared}: {lines:?}");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    send(broker, Signal::CONT);
    for (shared, lines) in SHARED.iter().zip(told().await) {
        assert!(lines[0].contains("\"WARN\""), "{shared}: {lines:?}");
        assert!(lines[0].contains(" on partitions 0"), "{lines:?}");
    }
    let group = system.group("ana", &["4915150000001".to_owned()]).await;
    let accepted = system.say("ana", &group, "afterwards").await;
    system.read("ana", &accepted).await;
}

/// The lines of its process that say so.
fn told(system: &System, shared: &str) -> Vec<String> {
    let process = if shared == "projector" {
        shared
    } else {
        "bridges"
    };
    let file = system.directory().join(format!("log/{process}.log"));
    let log = std::fs::read_to_string(file).unwrap();
    let says = |line: &&str| {
        line.contains(&format!("the leases of `{shared}` on partitions"))
            && line.contains("could not be renewed for 6 s")
    };
    log.lines().filter(says).map(str::to_owned).collect()
}
