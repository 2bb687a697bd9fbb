//! The dashboard, the alert rules and what is scraped: they speak of metrics that the code has, and of chapters that exist.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::files::{filled, interpolated, path, read, variables, words, yaml};

const DASHBOARD: &str = "deploy/grafana/dashboards/chat4all.json";
const RULES: &str = "deploy/prometheus/rules.yml";
/// What a counter or a histogram adds to its name.
const PARTS: &[&str] = &["_bucket", "_count", "_sum", "_total"];
/// Metrics of others: Prometheus' own, and node-exporter's.
const OF_OTHERS: &[&str] = &[
    "up",
    "ALERTS",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
];
/// Series that appear with the first trouble; the others are there from the beginning.
const WITH_TROUBLE: &[&str] = &[
    "chat4all_projector_halted",
    "chat4all_projector_dead_letters_total",
    "chat4all_inbound_parked_total",
];

#[test]
fn rules_and_dashboard_speak_of_metrics_that_are_registered() {
    let registered = registered();
    let named = named();
    assert!(named.len() > 20, "{named:?}");
    let unknown: Vec<_> = named
        .iter()
        .filter(|name| !is_registered(name, &registered))
        .collect();
    assert!(unknown.is_empty(), "nobody registers {unknown:?}");
    assert!(
        !is_registered("chat4all_projector_lags_seconds", &registered),
        "this test finds nothing"
    );
    assert!(
        !is_registered("chat4all_projector_lag", &registered),
        "the unit belongs to the name"
    );
}

/// Every name that rules or dashboard use is on the page of a running system, with its exact ending.
pub fn are_all_on(page: &str) {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let exposed: BTreeSet<_> = lines
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let missing: Vec<_> = named()
        .into_iter()
        .filter(|name| !exposed.contains(name.as_str()) && !WITH_TROUBLE.contains(&name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "a running system does not expose {missing:?}, only {exposed:?}"
    );
    let registered = registered();
    let unknown: Vec<_> = exposed
        .iter()
        .filter(|name| !is_registered(name, &registered))
        .collect();
    assert!(
        unknown.is_empty(),
        "{unknown:?} are registered in a way that `registered` does not see"
    );
}

#[test]
fn every_alert_has_a_case_a_weight_and_a_chapter() {
    let rules = yaml(RULES);
    let cases = read("deploy/prometheus/rules_test.yml");
    let chapters = read("docs/operations.md");
    let alerts = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(alerts.len() > 10);
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let rings = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
        assert!(cases.contains(&rings), "no case in which {name} rings");
        let severity = alert["labels"]["severity"].as_str();
        assert!(
            matches!(severity, Some("page" | "ticket")),
            "{name}: {severity:?}"
        );
        assert!(
            alert["annotations"]["summary"].is_string(),
            "{name} says nothing"
        );
        let chapter = alert["annotations"]["runbook"].as_str().unwrap();
        assert!(
            chapters.contains(&format!("\n## {chapter}\n")),
            "{name}: no chapter `{chapter}`"
        );
    }
}

#[test]
fn every_role_is_scraped_where_it_listens_and_grafana_asks_prometheus() {
    let compose = interpolated(&yaml("compose.yaml"), &filled(variables(".env.example"))).unwrap();
    let services = &compose["services"];
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let jobs = prometheus["scrape_configs"].as_array().unwrap();
    let roles = &jobs[0]["dns_sd_configs"][0];
    assert_eq!(
        words(&roles["names"]),
        ["command-api", "query-api", "projector", "bridges"]
    );
    for role in words(&roles["names"]) {
        let listen = services[&role]["environment"]["CHAT4ALL_HTTP__LISTEN"]
            .as_str()
            .unwrap();
        assert!(
            listen.ends_with(&format!(":{}", roles["port"])),
            "{role} listens on {listen}"
        );
    }
    let node = jobs[1]["static_configs"][0]["targets"][0].as_str().unwrap();
    let (host, port) = node.split_once(':').unwrap();
    let arguments = words(&services[host]["command"]);
    assert!(
        arguments.contains(&format!("--web.listen-address=:{port}")),
        "{arguments:?}"
    );

    let sources = yaml("deploy/grafana/provisioning/datasources/prometheus.yml");
    let source = &sources["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(
                target["datasource"]["uid"], source["uid"],
                "{}",
                panel["title"]
            );
        }
    }
    let provider = yaml("deploy/grafana/provisioning/dashboards/chat4all.yml");
    let folder = provider["providers"][0]["options"]["path"]
        .as_str()
        .unwrap();
    let mounted = words(&services["grafana"]["volumes"])
        .into_iter()
        .any(|volume| volume.contains(&format!(":{folder}:")));
    assert!(mounted, "{folder} is not mounted");
}

/// The names of metrics in every expression.
fn named() -> BTreeSet<String> {
    let mut expressions = Vec::new();
    let rules = yaml(RULES);
    for alert in rules["groups"][0]["rules"].as_array().unwrap() {
        expressions.push(alert["expr"].as_str().unwrap().to_owned());
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    let all: BTreeSet<_> = expressions
        .iter()
        .flat_map(|expression| metrics_in(expression))
        .collect();
    let ours = all
        .into_iter()
        .filter(|name| !OF_OTHERS.contains(&name.as_str()));
    ours.collect()
}

/// Words that are metrics: not functions, labels, values or words of the language.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    // What stands in braces, quotes and behind `by` are labels and values.
    let mut plain = String::new();
    let mut depth = 0;
    for c in expression.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let words = plain.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let prefixed = |word: &&str| {
        word.starts_with("chat4all_") || word.starts_with("node_") || OF_OTHERS.contains(word)
    };
    words.filter(prefixed).map(str::to_owned).collect()
}

/// The name of each metric that our code registers, its unit included.
fn registered() -> BTreeSet<String> {
    let mut sources = Vec::new();
    for member in std::fs::read_dir(path(".")).unwrap() {
        collect(&member.unwrap().path().join("src"), &mut sources);
    }
    let mut names = BTreeSet::new();
    for source in sources
        .iter()
        .filter(|source| source.contains("prometheus_client"))
    {
        // `register("name", …)`, `register_with_unit("name", …, Unit::Seconds, …)`, `encode_descriptor("name", …)`.
        for call in ["register(", "register_with_unit(", "encode_descriptor("] {
            for rest in source.split(call).skip(1) {
                let Some(rest) = rest.trim_start().strip_prefix('"') else {
                    continue;
                };
                let (name, _) = rest.split_once('"').unwrap();
                let unit = if call == "register_with_unit(" {
                    "_seconds"
                } else {
                    ""
                };
                names.insert(format!("chat4all_{name}{unit}"));
            }
        }
    }
    names
}

/// The text of every Rust file below `directory`, if there is one.
fn collect(directory: &Path, sources: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let place = entry.unwrap().path();
        if place.is_dir() {
            collect(&place, sources);
        } else if place.extension().is_some_and(|extension| extension == "rs") {
            sources.push(std::fs::read_to_string(place).unwrap());
        }
    }
}

fn is_registered(name: &str, registered: &BTreeSet<String>) -> bool {
    let part = PARTS.iter().find_map(|ending| name.strip_suffix(ending));
    registered.contains(name) || part.is_some_and(|metric| registered.contains(metric))
}
