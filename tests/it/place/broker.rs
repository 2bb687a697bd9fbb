//! The brokers of compose.yaml: as many as copies, each where the roles look for it, and three of them one cluster.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use chat4all_service::Config;
use serde_json::Value;
use url::Url;

use super::files::{mounts, path, read, words};

/// What a node may be started with.
const CONFIGURATIONS: [&str; 2] = ["nats/nats-server.conf", "nats/nats-cluster.conf"];

/// Each address of the broker is a service that listens there, and there are as many as copies.
pub fn is(project: &Value, config: &Config, nodes: usize) {
    let urls = &config.nats.url;
    assert_eq!((config.nats.replicas, urls.len()), (nodes, nodes));
    let addresses = [
        (urls, "NATS_LISTEN"),
        (&config.nats.monitor_url, "NATS_MONITOR"),
    ];
    for (urls, variable) in addresses {
        for url in urls {
            let node = node(project, url);
            assert_eq!(url.port(), Some(heard_on(node, variable)), "{url}");
            assert_eq!(set(node, "NATS_SYNC_INTERVAL"), "always");
            let file = words(&node["command"]).pop().unwrap();
            assert_eq!(file.ends_with("nats-cluster.conf"), nodes > 1, "{file}");
            assert!(path(&file.replace("/etc/nats", "nats")).exists(), "{file}");
        }
    }
    for url in urls {
        is_asked_for_what_it_is_given(node(project, url));
    }
    // What a node shares with no other.
    let of_each = |what: &dyn Fn(&Value) -> String| -> BTreeSet<String> {
        urls.iter().map(|url| what(node(project, url))).collect()
    };
    let names = of_each(&|node| set(node, "NATS_SERVER_NAME").to_owned());
    assert_eq!(names.len(), nodes, "two nodes have one name");
    let volumes = of_each(&|node| volume_at(node, set(node, "NATS_STORE_DIR")));
    assert_eq!(volumes.len(), nodes, "two nodes write into one volume");
    if nodes > 1 {
        are_one_cluster(project, urls);
    }
}

/// They find each other: a mistake in a route would leave lone brokers, each of them healthy.
fn are_one_cluster(project: &Value, urls: &[Url]) {
    let hosts: BTreeSet<_> = urls.iter().map(|url| url.host_str().unwrap()).collect();
    let mut clusters = BTreeSet::new();
    for url in urls {
        let this = node(project, url);
        clusters.insert(set(this, "NATS_CLUSTER_NAME"));
        let routes: Vec<String> = serde_json::from_str(set(this, "NATS_ROUTES")).unwrap();
        let routes: Vec<_> = routes
            .iter()
            .map(|route| Url::parse(route).unwrap())
            .collect();
        let led_to: BTreeSet<_> = routes
            .iter()
            .map(|route| route.host_str().unwrap())
            .collect();
        assert_eq!((led_to, routes.len()), (hosts.clone(), hosts.len()));
        for route in &routes {
            let other = node(project, route);
            let port = heard_on(other, "NATS_CLUSTER_LISTEN");
            assert_eq!((route.scheme(), route.port()), ("nats", Some(port)));
        }
    }
    assert_eq!(clusters.len(), 1, "not one cluster: {clusters:?}");
}

/// Every variable of it stands in a configuration: nats-server passes over one that does not.
fn is_asked_for_what_it_is_given(node: &Value) {
    let text = CONFIGURATIONS.map(read).concat();
    let asked: BTreeSet<_> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "_$".contains(c)))
        .filter_map(|word| word.strip_prefix('$'))
        .collect();
    let given = node["environment"].as_object().unwrap().keys();
    for name in given.filter(|name| name.starts_with("NATS_")) {
        assert!(
            asked.contains(name.as_str()),
            "no configuration has ${name}"
        );
    }
}

/// The service that an address names.
fn node<'a>(project: &'a Value, url: &Url) -> &'a Value {
    let node = &project["services"][url.host_str().unwrap()];
    assert!(!node.is_null(), "no node {url}");
    node
}

fn set<'a>(node: &'a Value, variable: &str) -> &'a str {
    let value = node["environment"][variable].as_str();
    value.unwrap_or_else(|| panic!("no {variable}"))
}

/// The port of an address that others reach.
fn heard_on(node: &Value, variable: &str) -> u16 {
    let address: SocketAddr = set(node, variable).parse().unwrap();
    assert!(address.ip().is_unspecified(), "{variable} is {address}");
    address.port()
}

/// The volume that is mounted there.
fn volume_at(node: &Value, place: &str) -> String {
    let mut mounts = mounts(node).into_iter();
    let found = mounts.find(|(_, target)| target == place);
    found.unwrap_or_else(|| panic!("no volume at {place}")).0
}
