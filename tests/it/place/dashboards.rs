//! The dashboard, the alert rules and what is scraped: they speak of metrics that the code has, and of chapters that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expressions::{self, Named, OF_OTHERS};
use super::files::{filled, interpolated, read, sources, variables, words, yaml};
use super::labels;

const DASHBOARD: &str = "deploy/grafana/dashboards/chat4all.json";
const RULES: &str = "deploy/prometheus/rules.yml";
const CASES: &str = "deploy/prometheus/rules_test.yml";
pub const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
/// What a counter or a histogram adds to its name.
const PARTS: &[&str] = &["_bucket", "_count", "_sum", "_total"];
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
    labels::are_on(page);
}

#[test]
fn every_alert_has_a_case_a_weight_and_a_chapter() {
    let rules = yaml(RULES);
    let cases = read(CASES);
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
    let prometheus = yaml(PROMETHEUS);
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
}

/// The names of our metrics in every expression.
fn named() -> BTreeSet<String> {
    let all = named_in(&expressions()).into_iter().map(|one| one.metric);
    all.filter(|name| !OF_OTHERS.contains(&name.as_str()))
        .collect()
}

/// Every metric in these, as often as it is there.
pub fn named_in(expressions: &[String]) -> Vec<Named> {
    let each = expressions.iter();
    each.flat_map(|expression| expressions::named(expression))
        .collect()
}

/// Every expression of rules and dashboard.
pub fn expressions() -> Vec<String> {
    let rules = yaml(RULES);
    let alerts = rules["groups"][0]["rules"].as_array().unwrap().iter();
    let alerts = alerts.map(|alert| alert["expr"].as_str().unwrap().to_owned());
    alerts.chain(panels()).collect()
}

/// Every expression of the dashboard.
pub fn panels() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// Every series of the rules' cases.
pub fn cases() -> Vec<String> {
    let cases = yaml(CASES);
    let tests = cases["tests"].as_array().unwrap().iter();
    let series = tests.flat_map(|test| test["input_series"].as_array().unwrap());
    series
        .map(|one| one["series"].as_str().unwrap().to_owned())
        .collect()
}

/// The name of each metric that our code registers, its unit included.
fn registered() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, source) in sources()
        .iter()
        .filter(|(_, source)| source.contains("prometheus_client"))
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

fn is_registered(name: &str, registered: &BTreeSet<String>) -> bool {
    let part = PARTS.iter().find_map(|ending| name.strip_suffix(ending));
    registered.contains(name) || part.is_some_and(|metric| registered.contains(metric))
}
