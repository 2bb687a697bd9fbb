//! A broker that stands still for longer than leases are believed: whoever has some says so.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::site::{EVEN, PATIENCE, SHARED, even, reached};
use crate::guarantees::system::{System, phone};
use crate::support::up::send;

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_renew_says_once_which_leases_stand_still_and_goes_on_afterwards() {
    let system = System::split().await;
    even(&system, &[8], EVEN, "all have theirs").await;
    let broker = system.process("nats-server").unwrap();
    send(broker, Signal::STOP);
    let told = async || SHARED.map(|shared| told(&system, shared));
    let each: Vec<_> = (0..8).map(|partition| format!("{partition:02}")).collect();
    let all = [(); 4].map(|()| each.clone());
    reached("all of them say so", PATIENCE, told, |told| *told == all).await;
    // It is looked at every second: what was said is not said again.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(told().await, all);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    send(broker, Signal::CONT);
    let group = system.group("ana", &[phone(1)]).await;
    let accepted = system.say("ana", &group, "afterwards").await;
    system.read("ana", &accepted).await;
    assert_eq!(told().await, all);
}

/// The partitions of which its process says so, sorted.
fn told(system: &System, shared: &str) -> Vec<String> {
    let process = if shared == "projector" {
        shared
    } else {
        "bridges"
    };
    let file = system.directory().join(format!("log/{process}.log"));
    let log = std::fs::read_to_string(file).unwrap();
    let begins = format!("the leases of `{shared}` on partitions ");
    let said = log.lines().filter(|line| line.contains("\"WARN\""));
    let said = said.filter_map(|line| {
        let (_, rest) = line.split_once(&begins)?;
        Some(rest.split_once(" could not be renewed for 6 s")?.0)
    });
    let mut partitions: Vec<_> = said
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect();
    partitions.sort_unstable();
    partitions
}
