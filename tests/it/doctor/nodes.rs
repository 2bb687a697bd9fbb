//! A cluster that nodes of are away: named while it still works, and when it does not any more.

use std::time::{Duration, Instant};

use chat4all_cli::embedded::{ClusterOptions, Nats, NatsCluster, temp_dir};
use tokio::task::block_in_place;

use super::said::{doctor, doctor_until, on, with};
use crate::support::log::{layout, provisioned};

const LOG: [&str; 4] = ["--only", "broker", "--only", "log"];
const ALL: [&str; 8] = [
    "--only", "broker", "--only", "log", "--only", "readers", "--only", "channels",
];
/// A copy that says nothing counts as behind after ten seconds; a leader without followers gives up after as long, and the
/// others elect one within nine.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Nobody waits longer for the doctor, whatever the broker does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_are_away_are_named_and_so_is_a_log_without_a_leader() {
    let dir = temp_dir().unwrap();
    let options = ClusterOptions::in_dir(dir.path());
    let mut cluster = NatsCluster::start(options).await.unwrap();
    provisioned(&cluster.url(), &layout(3)).await;
    let monitors: Vec<_> = cluster.nodes().iter().map(Nats::monitor_url).collect();
    let variables = on(cluster.url(), monitors.join(","));
    let variables = with(&variables, "CHAT4ALL_NATS__REPLICAS", "3");
    // As the log was made.
    let variables = with(&variables, "CHAT4ALL_NATS__MAX_BYTES", "1073741824");
    block_in_place(|| doctor_until(&variables, &LOG, SETTLED_WITHIN, |said| said.code == 0));

    // One away: everything goes on, once what it led has another leader, and one more must not go.
    let away = cluster.nodes()[2].name();
    let copies = format!("{away} is away or behind with its copies of ");
    let streams = " streams: EVT-00, EVT-01, EVT-02 and ";
    cluster.node(2).kill().await;
    // One sentence for all of them, and no other.
    let said = block_in_place(|| {
        doctor_until(&variables, &LOG, SETTLED_WITHIN, |said| {
            let wrong = said.wrong("log");
            matches!(wrong[..], [one] if one.starts_with(&copies) && one.contains(streams))
        })
    });
    said.has("wrong", "log", &copies, "start the node");
    let place = monitors[2].trim_start_matches("http://");
    let silent = format!("the monitoring of NATS on {place} does not answer");
    said.has("wrong", "broker", &silent, "start the node");

    // Two away: at once, while the one that is left has not noticed, and afterwards.
    cluster.node(1).kill().await;
    let ask = || {
        let begun = Instant::now();
        let said = block_in_place(|| doctor(&variables, &ALL));
        let took = begun.elapsed();
        assert!(took < ANSWERED_WITHIN, "{took:?}: {:#}", said.answer);
        said
    };
    let said = ask();
    assert_eq!(said.code, 1);
    assert!(!said.wrong("log").is_empty(), "{:#}", said.answer);
    let none = "has no leader: nothing can be stored in it";
    let said = block_in_place(|| {
        doctor_until(&variables, &LOG, SETTLED_WITHIN, |said| {
            let wrong = said.wrong("log");
            !wrong.is_empty() && wrong.iter().all(|what| what.contains(none))
        })
    });
    for stream in ["EVT-00", "EVT-07", "INBOUND", "KV_LEASES"] {
        let says = format!("{stream} {none}");
        said.has("wrong", "log", &says, "start the nodes that are away");
    }
    let said = ask();
    said.has(
        "wrong",
        "channels",
        "the accounts' states cannot be read",
        "look at the broker",
    );
    assert!(!said.looked_at("readers"), "{:#}", said.answer);
}
