//! What the profile `metrics` starts finds its files: each is mounted where it is looked for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{mounts, path, words, yaml};

/// Prometheus reads our configuration and our rules, Grafana shows our dashboard first.
pub fn is(project: &Value) {
    prometheus(&project["services"]["prometheus"]);
    grafana(&project["services"]["grafana"]);
}

fn prometheus(service: &Value) {
    let flags = words(&service["command"]);
    let file = flags
        .iter()
        .find_map(|flag| flag.strip_prefix("--config.file="));
    let read = seen(service, Path::new(file.expect("a configuration is named")));
    assert_eq!(read, shipped("deploy/prometheus/prometheus.yml"));
    // The names of rules are relative to the configuration.
    let rules: BTreeSet<_> = names_in("deploy/prometheus")
        .into_iter()
        .filter(|name| name != "prometheus.yml" && !name.ends_with("_test.yml"))
        .collect();
    let named = words(&yaml("deploy/prometheus/prometheus.yml")["rule_files"]);
    assert_eq!(rules.len(), named.len(), "{named:?}");
    assert_eq!(rules, named.into_iter().collect());
}

fn grafana(service: &Value) {
    let environment = &service["environment"];
    // Where it looks unless it is told otherwise.
    assert!(environment["GF_PATHS_PROVISIONING"].is_null());
    let provisioning = seen(service, Path::new("/etc/grafana/provisioning"));
    assert_eq!(provisioning, shipped("deploy/grafana/provisioning"));
    for (kind, file) in [
        ("dashboards", "chat4all.yml"),
        ("datasources", "prometheus.yml"),
    ] {
        let names = names_in(&format!("deploy/grafana/provisioning/{kind}"));
        assert_eq!(names, BTreeSet::from([file.to_owned()]));
    }
    let provider = yaml("deploy/grafana/provisioning/dashboards/chat4all.yml");
    let providers = provider["providers"].as_array().unwrap();
    let [provider] = &providers[..] else {
        panic!("{} providers of dashboards", providers.len());
    };
    let folder = Path::new(provider["options"]["path"].as_str().unwrap());
    assert_eq!(seen(service, folder), shipped("deploy/grafana/dashboards"));
    let dashboards = names_in("deploy/grafana/dashboards");
    assert_eq!(dashboards.len(), 1, "{dashboards:?}");
    let only = folder.join(dashboards.first().unwrap());
    let home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str();
    assert_eq!(home, only.to_str(), "another dashboard is shown first");
}

/// What of the repository stands at `place` in the container.
fn seen(service: &Value, place: &Path) -> PathBuf {
    let mounts = mounts(service);
    let found = mounts.iter().find_map(|(source, target)| {
        let rest = place.strip_prefix(target).ok()?;
        // Not a volume.
        (source.starts_with(['.', '/'])).then(|| path(source).join(rest))
    });
    let found = found.unwrap_or_else(|| panic!("nothing is mounted at {}", place.display()));
    let canonical = found.canonicalize();
    canonical.unwrap_or_else(|error| panic!("{}: {error}", found.display()))
}

fn shipped(file: &str) -> PathBuf {
    path(file).canonicalize().unwrap()
}

fn names_in(directory: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path(directory)).unwrap();
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| name(entry.unwrap())).collect()
}
