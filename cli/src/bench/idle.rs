//! How long a start takes, and how much memory a stack has that does nothing.

use std::time::Duration;

use tokio::time::sleep;

use super::report::Report;
use super::stack::Stack;
use super::{Plan, progress};

/// How long it is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);

/// # Errors
/// The stack does not start or stop.
pub(super) async fn measure(plan: Plan, report: &mut Report) -> anyhow::Result<()> {
    progress("idle: starting and stopping");
    let (mut first, mut again, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let stack = Stack::start(&[]).await?;
        first.push(stack.started_in.as_secs_f64());
        report.synced(stack.sync().await?);
        let stack = stack.again().await?;
        again.push(stack.started_in.as_secs_f64());
        sleep(SETTLE).await;
        let bytes: u64 = stack.processes().into_iter().map(proportional_bytes).sum();
        resident.push(bytes as f64 / 1e6);
        stack.stop().await?;
    }
    report.aim(
        "`chat4all up` on nothing, until the first message is READ",
        "s",
        &first,
        "≤ 3",
    );
    report.aim(
        "`chat4all up` on its data, until the first message is READ",
        "s",
        &again,
        "≤ 3",
    );
    report.aim(
        "idle stack, resident (proportional set size of every process)",
        "MB",
        &resident,
        "≤ 250",
    );
    Ok(())
}

/// A process's share of memory: what it has alone, and its part of what it shares. 0 for one that has just ended.
fn proportional_bytes(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
