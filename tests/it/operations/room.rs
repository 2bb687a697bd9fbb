//! More room for the log: after the steps of the page the configuration is true again. That a process notices is shown elsewhere.

use chat4all_cli::embedded::temp_dir;
use serde_json::json;

use super::{bytes, commands};
use crate::journeys::system::System;
use crate::place::read_page;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_room_was_made_as_the_page_says_nothing_differs_from_the_configuration() {
    let page = read_page("docs/operations.md");
    let (_, setting) = page.split_once("`nats.max_bytes = ").unwrap();
    let (sum, _) = setting.split_once('`').unwrap();
    let system = System::start();
    let place = temp_dir().unwrap();
    let file = place.path().join("chat4all.toml");
    std::fs::write(&file, format!("[nats]\nmax_bytes = {sum}\n")).unwrap();
    let differing = async || -> Vec<String> {
        let report = system.typed(&file, &["provision", "--json"]).await;
        let drift = report["drift"].as_array().unwrap().iter();
        drift
            .map(|one| one["stream"].as_str().unwrap().to_owned())
            .collect()
    };
    let events: Vec<_> = (0..8).map(|number| format!("EVT-{number:02}")).collect();
    let beside = ["INBOUND", "PARKED"].map(str::to_owned);
    assert_eq!(differing().await, [&events[..], &beside].concat());

    let js = system.jetstream().await;
    for command in commands(&page) {
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let ["stream", "edit", name, "--max-bytes", size] = words[..] else {
            continue;
        };
        // One stands for all of them.
        let all = match name.starts_with("EVT-") {
            true => events.clone(),
            false => vec![name.to_owned()],
        };
        for stream in all {
            let stream = js.get_stream(stream).await.unwrap();
            let mut config = stream.cached_info().config.clone();
            config.max_bytes = bytes(size).unwrap();
            js.update_stream(config).await.unwrap();
        }
    }
    assert_eq!(differing().await, Vec::<String>::new());
    let doctor = ["doctor", "--only", "log", "--json"];
    let said = system.typed(&file, &doctor).await;
    assert_eq!(said["findings"], json!([]), "{said}");
}
