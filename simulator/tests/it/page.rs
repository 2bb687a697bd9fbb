//! `docs/simulator.md`: each fault stands there, as it is asked for, and each route is there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{CUSTOMER, PHONE, Stage};

const PAGE: &str = include_str!("../../../docs/simulator.md");

#[tokio::test]
async fn the_page_names_each_fault_as_it_is_asked_for() {
    let stage = Stage::start().await;
    let mut named = BTreeSet::new();
    for row in PAGE.lines().filter(|line| line.starts_with("| `{\"kind\"")) {
        let fault: Value = serde_json::from_str(row.split('`').nth(1).unwrap()).unwrap();
        named.insert(fault["kind"].as_str().unwrap().to_owned());
        let (status, answer) = stage
            .try_control("POST", "faults", json!({"fault": fault}))
            .await;
        assert_eq!(status, 201, "{row}: {answer}");
    }
    // The refusal of a fault that there is not names all that there are.
    let (status, refusal) = stage
        .try_control("POST", "faults", json!({"fault": {"kind": "?"}}))
        .await;
    assert_eq!(status, 422);
    let sentence = refusal["error"].as_str().unwrap();
    let quoted = sentence.split('`').skip(1).step_by(2);
    let there: BTreeSet<_> = quoted
        .filter(|name| *name != "?")
        .map(str::to_owned)
        .collect();
    assert_eq!(named, there, "{sentence}");
    stage.stop().await;
}

#[tokio::test]
async fn every_place_that_the_page_names_is_there() {
    let stage = Stage::start().await;
    let rows = PAGE
        .lines()
        .filter(|line| line.contains("/_sim/") && line.starts_with("| `"));
    let mut places = 0;
    for row in rows {
        let cell = row.split('|').nth(1).unwrap();
        for text in cell.split('`').skip(1).step_by(2) {
            let Some((methods, path)) = text.split_once(" /_sim/") else {
                continue;
            };
            let path = path
                .replace("<number>", CUSTOMER)
                .replace("<phone_number_id>", PHONE)
                .replace("<id>", "1");
            for method in methods.split(' ') {
                let (status, answer) = stage.try_control(method, &path, json!({})).await;
                let missing = answer["error"] == "no such place in the control API";
                assert!(
                    !missing && status != 405,
                    "{method} {path}: {status} {answer}"
                );
                places += 1;
            }
        }
    }
    assert!(places >= 15, "only {places} places were found");
    stage.stop().await;
}
