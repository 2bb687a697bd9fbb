//! How long a start takes, and how much memory a stack has that does nothing.

use std::time::Duration;

use tokio::time::sleep;

use super::aim::Aim;
use super::plan::Plan;
use super::report::Report;
use super::stack::Stack;
use super::{memory, progress};

/// How long it is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn takes(plan: &Plan) -> Duration {
    (SETTLE + Duration::from_secs(8)) * plan.rounds
}

/// # Errors
/// The stack does not start or stop.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    progress("idle: starting and stopping");
    let (mut first, mut again) = (Vec::new(), Vec::new());
    let (mut proportional, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let stack = Stack::start(&[]).await?;
        first.push(stack.started_in.as_secs_f64());
        report.synced("the stack", stack.sync().await?);
        let stack = stack.again().await?;
        again.push(stack.started_in.as_secs_f64());
        sleep(SETTLE).await;
        let processes = stack.processes();
        let megabytes = |of: fn(u32) -> u64| {
            let bytes: u64 = processes.iter().map(|pid| of(*pid)).sum();
            bytes as f64 / 1e6
        };
        proportional.push(megabytes(memory::proportional));
        resident.push(megabytes(memory::resident));
        stack.stop().await?;
    }
    report.aim(
        "`chat4all up` on nothing, until the first message is READ",
        "s",
        &first,
        Aim::AtMost(3.0),
    );
    report.aim(
        "`chat4all up` on its data, until the first message is READ",
        "s",
        &again,
        Aim::AtMost(3.0),
    );
    report.aim(
        "idle stack, resident memory (proportional set size: what is shared counts once)",
        "MB",
        &proportional,
        Aim::AtMost(250.0),
    );
    report.aim(
        "idle stack, resident memory (resident set size: what is shared counts for each process)",
        "MB",
        &resident,
        Aim::AtMost(250.0),
    );
    Ok(())
}
