//! Partitions that nobody works on.

use std::time::{Duration, Instant};

use chat4all_nats::{lease, streams};
use tokio::task::block_in_place;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::said::{Variables, doctor, on};
use crate::support::log::one_node;

const PATIENCE: Duration = Duration::from_secs(60);

/// With an account, so that bridges have something to do.
fn with_account(variables: Variables) -> Variables {
    let account = [
        ("KIND", "whatsapp"),
        ("PHONE_NUMBER_ID", "100000000000001"),
        ("TOKEN", "x"),
        ("APP_SECRET", "x"),
        ("VERIFY_TOKEN", "x"),
        ("API_BASE", "http://127.0.0.1:1/v25.0"),
    ];
    let account = account.map(|(name, value)| {
        let name = format!("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__{name}");
        (name, value.to_owned())
    });
    variables.into_iter().chain(account).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_nobody_works_on_are_named_with_the_role_that_takes_them() {
    let node = one_node().await;
    let variables = with_account(on(node.nats.url(), node.nats.monitor_url()));
    let ask = || block_in_place(|| doctor(&variables, &["--only", "readers"]));
    let nobody = |partitions: &str, role: &str| {
        format!("nobody works on partitions {partitions} of `{role}`")
    };
    let all = "00 01 02 03 04 05 06 07";
    let bridges = (nobody(all, "bridge-whatsapp"), "start `chat4all bridges`");
    // Of these only the first partition has work.
    let inbound = (nobody("00", "inbound-whatsapp"), bridges.1);
    let redrive = (nobody("00", "redrive"), bridges.1);
    let projector = (nobody(all, "projector"), "start `chat4all projector`");

    let said = ask();
    for (says, mend) in [&bridges, &inbound, &redrive, &projector] {
        said.has("wrong", "readers", says, mend);
    }
    assert_eq!(said.wrong("readers").len(), 4, "{:#}", said.answer);

    // One that works on everything.
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut leases = lease::join(node.log.clone(), "projector", "here", &tasks, &stop);
    let mut held = Vec::new();
    while held.len() < 8 {
        let lease = timeout(PATIENCE, leases.recv()).await.unwrap();
        held.push(lease.expect("nobody asked it to stop"));
    }
    let said = ask();
    for (says, mend) in [&bridges, &inbound, &redrive] {
        said.has("wrong", "readers", says, mend);
    }
    assert_eq!(said.wrong("readers").len(), 3, "{:#}", said.answer);

    // All but one have somebody. A lease ages out when nobody renews it, so they are made anew for each look.
    let bucket = node.log.jetstream().get_key_value(streams::LEASES).await;
    let (bucket, begun) = (bucket.unwrap(), Instant::now());
    let wanted = nobody("03", "bridge-whatsapp");
    loop {
        for partition in node.log.partitions().all().filter(|one| one.number() != 3) {
            let key = format!("bridge-whatsapp.{partition}");
            bucket.put(key, "somebody".into()).await.unwrap();
        }
        for role in ["inbound-whatsapp", "redrive"] {
            let key = format!("{role}.00");
            bucket.put(key, "somebody".into()).await.unwrap();
        }
        let said = ask();
        if said.wrong("readers") == [wanted.as_str()] {
            return;
        }
        let late = begun.elapsed() > PATIENCE;
        assert!(!late, "not `{wanted}`, but {:#}", said.answer);
    }
}
